"""The platform's own URLs, the plugins' after them, and what a deployment adds to the file."""

from __future__ import annotations

import os

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from edx_django_utils.plugins import get_plugin_url_patterns

__all__ = ["include", "urlpatterns"]  # what a deployment adds uses `include`


@csrf_exempt
def segmentio_event(request: HttpRequest) -> HttpResponse:
    """Stand in for the view that the bridge replaces."""
    return HttpResponse("the platform's own view")


urlpatterns = [path("segmentio/event", segmentio_event)]
urlpatterns.extend(get_plugin_url_patterns("lms.djangoapp"))

exec(os.environ.get("PLATFORM_URLS", ""))  # noqa: S102 - in the image, these are lines of the file
