"""The endpoint, with and without a slash: Segment turns a redirected POST into a bodyless GET."""

from __future__ import annotations

from django.urls import re_path

from .views import segmentio_event

app_name = "segmentio_bridge"

urlpatterns = [re_path(r"^event(?:/)?$", segmentio_event, name="segmentio_event")]
