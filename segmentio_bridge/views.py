"""HTTP in, HTTP out: the webhook endpoint. Nothing else knows a response.

What Segment makes of an answer decides what it should be: it takes 2xx for delivered, comes again
for up to four hours after 503, and forgets the events for good after any 4xx. So a fault of the
event is answered 200 (sending it again would change nothing), a fault of the site 503, and 4xx goes
only to those who hold no secret or do not speak the protocol:
https://segment.com/docs/connections/destinations/#retries.

A request is trusted in nothing, and nothing is raised.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from . import conf
from .authentication import authenticate, verify_signature
from .exceptions import (
    AuthenticationFailed,
    BodyTooLarge,
    DeliveryRefused,
    IncompleteBody,
    MalformedBody,
    ServiceUnavailable,
    UnsupportedMediaType,
)
from .outcomes import Outcome, Reason
from .payload import Payload, find_signable, parse_events
from .pipeline import Result, keep
from .redaction import printable, withheld
from .reporting import report
from .signals import delivery_answered, send

if TYPE_CHECKING:
    from _typeshed import SupportsRead

logger = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS = 30

_import: Callable[[str], Callable[[Payload], Result]] = cache(import_string)


@csrf_exempt
def segmentio_event(request: HttpRequest) -> HttpResponse:
    """Take one delivery from Segment.

    200 if it was taken, whatever became of its events; 405, 401, 415, 413 or 400 if the request is
    refused; 503 if it should be sent again. Of a body no more than one byte above
    TRACKING_SEGMENTIO_MAX_BODY_BYTES is read, and nothing if the key is wrong. Never raises.
    """
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    start = time.perf_counter()
    response, events = _answer(request)
    seconds = time.perf_counter() - start
    send(delivery_answered, status_code=response.status_code, seconds=seconds, events=events)
    return response


class _EveryDatabase(set[str]):
    def __contains__(self, alias: object) -> bool:
        return True


# The sender has no session to log in with, and rolling back a request would undo nothing that was
# emitted. Django's own decorators would not do: login_not_required came with Django 5.1, and
# non_atomic_requests knows one database only.
segmentio_event.login_required = False  # type: ignore[attr-defined]  # read by Django
segmentio_event._non_atomic_requests = _EveryDatabase()  # type: ignore[attr-defined]  # too


def _answer(request: HttpRequest) -> tuple[HttpResponse, int | None]:
    """Return the answer, and how many raw events the delivery holds, or None if it is refused."""
    try:
        result = _receive(request)
    except AuthenticationFailed:
        logger.warning(
            "Refused a delivery from %s: no valid credential.",
            printable(request.META.get("REMOTE_ADDR")),
        )
        return HttpResponse(status=AuthenticationFailed.status_code), None
    except MalformedBody:
        return JsonResponse({"error": "Invalid JSON"}, status=MalformedBody.status_code), None
    except IncompleteBody:
        logger.warning("The body of a delivery broke off; it has to come again.")
        return _refusal(IncompleteBody.status_code), None
    except DeliveryRefused as refusal:
        return _refusal(refusal.status_code), None
    except ImproperlyConfigured as error:
        logger.error("No delivery can be taken: %s", error)
        return _refusal(ServiceUnavailable.status_code), None
    except Exception as error:
        logger.error("A delivery met an unexpected error.", exc_info=withheld(error))
        return _refusal(ServiceUnavailable.status_code), None
    events = len(result.outcomes) + result.queued
    if result.should_be_retried:
        return _refusal(ServiceUnavailable.status_code), events
    return HttpResponse(), events


def _receive(request: HttpRequest) -> Result:
    authenticate(request)
    _require_plain_json(request)
    body = _read_body(request, conf.MAX_BODY_BYTES.get())
    verify_signature(request, find_signable(body))
    take = _import(conf.DELIVERY.get())
    try:
        payload = parse_events(body)
        result = take(payload)
    except MalformedBody:
        keep([(Outcome(Reason.MALFORMED_BODY, None), body)])
        raise
    report(result.outcomes, single=payload.single, queued=result.queued)
    return result


def _require_plain_json(request: HttpRequest) -> None:
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in ("", "identity") or request.content_type != "application/json":
        raise UnsupportedMediaType


def _read_body(request: HttpRequest, limit: int) -> bytes:
    """Return the whole body, of at most `limit` bytes; one more is read, to see that there is more.

    Reads the stream itself: `request.body` would refuse what is larger than Django's
    DATA_UPLOAD_MAX_MEMORY_SIZE, which is smaller than Segment's batches.
    """
    declared = _declared_length(request)
    if declared > limit:
        raise BodyTooLarge
    try:
        body = _body_stream(request).read(limit + 1)
    except OSError:
        raise IncompleteBody from None
    if len(body) > limit:
        raise BodyTooLarge
    if len(body) < declared:
        raise IncompleteBody
    return body


def _body_stream(request: HttpRequest) -> SupportsRead[bytes]:
    meta = request.META
    if "HTTP_TRANSFER_ENCODING" not in meta or "wsgi.input" not in meta:
        return request
    # Under WSGI, Django reads no further than Content-Length, which a chunked body lacks. A server
    # that can tell where such a body ends says so; with any other there is no way to read it.
    if not meta.get("wsgi.input_terminated"):
        raise IncompleteBody
    stream: SupportsRead[bytes] = meta["wsgi.input"]
    return stream


def _declared_length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _refusal(status_code: int) -> HttpResponse:
    response = HttpResponse(status=status_code)
    if status_code == ServiceUnavailable.status_code:
        response["Retry-After"] = str(_RETRY_AFTER_SECONDS)
        # Django would log an error with the request, and mail its query string to the ADMINS, with
        # the key in it. What has happened is in this app's own log.
        response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own mark
    return response
