"""The bridge, and beside it the bare views that it is compared with."""

from __future__ import annotations

from django.urls import include, path

from . import bare

_bare_patterns = [
    path("parse", bare.parse),
    path("refuse", bare.refuse),
]

urlpatterns = [
    path("bare/", include(_bare_patterns)),
    path("segmentio/", include("segmentio_bridge.urls")),
]
