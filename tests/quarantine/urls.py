"""The demo's URLs, and the admin's."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tests.demo.urls import urlpatterns as _demo_urls

urlpatterns = [*_demo_urls, path("admin/", admin.site.urls)]
