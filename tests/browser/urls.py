"""The site's URLs: the endpoint, the admin, and the admin's own styles."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path, re_path

urlpatterns = [
    path("segmentio/", include("segmentio_bridge.urls")),
    path("admin/", admin.site.urls),
    # What a web server does in front of a real site.
    re_path(r"^static/(?P<path>.*)$", serve, {"insecure": True}),
]
