"""The demo's URLs: the two lines of a site's own urls.py, and a page for Prometheus."""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("segmentio/", include("segmentio_bridge.urls")),
]

if find_spec("prometheus_client"):
    from tests.demo.metrics import metrics

    urlpatterns.append(path("metrics", metrics))
