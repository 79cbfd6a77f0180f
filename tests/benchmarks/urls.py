"""The bridge, and beside it the bare views that it is compared with."""

from __future__ import annotations

from django.urls import include, path

from . import bare

_bare_patterns = [
    path("parse", bare.parse),
    path("refuse", bare.refuse),
]

# The further down a view stands, the longer it takes to find it. The requests to the bare views go
# to the first and to the last entry in turn, so that they are found as fast as the bridge's.
urlpatterns = [
    path("bare/", include(_bare_patterns)),
    path("segmentio/", include("segmentio_bridge.urls")),
    path("bare-too/", include(_bare_patterns)),
]
