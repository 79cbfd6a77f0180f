"""The middleware that logs requests, and tells the tracker what it knows of each."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from eventtracking.tracker import get_tracker

FROM_REQUEST = {
    "host": "SERVER_NAME",
    "agent": "HTTP_USER_AGENT",
    "path": "PATH_INFO",
    "referer": "HTTP_REFERER",
    "accept_language": "HTTP_ACCEPT_LANGUAGE",
}


class TrackMiddleware:
    """Stands in for the platform's own of that name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Log the request with its parameters in clear, unless a pattern matches its path."""
        user: AnonymousUser | User = request.user
        context = {
            "session": request.session.session_key or "",
            "user_id": user.pk,
            "username": user.get_username(),
            "ip": request.META["REMOTE_ADDR"],
            "client_id": request.headers.get("X-Edx-Ga-Client-Id"),
            **{key: request.META.get(header, "") for key, header in FROM_REQUEST.items()},
        }
        tracker = get_tracker()
        with tracker.context("edx.request", context):
            path = request.path_info
            patterns = getattr(settings, "TRACKING_IGNORE_URL_PATTERNS", [])
            if not any(re.match(pattern, path) for pattern in patterns):
                tracker.emit(path, {"GET": request.GET.dict()})
            return self.get_response(request)
