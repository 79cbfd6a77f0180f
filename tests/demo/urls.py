"""The demo's URLs: the two lines of a site's own urls.py, and nothing else."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("segmentio/", include("segmentio_bridge.urls"))]
