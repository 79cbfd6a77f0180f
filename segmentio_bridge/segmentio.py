"""The names that a site knows from `common.djangoapps.track.views.segmentio`.

A facade: no logic lives here. The constants are the descriptions of the reasons they stand for. For
the originals see
https://github.com/openedx/edx-platform/blob/master/common/djangoapps/track/views/segmentio.py.
"""

from __future__ import annotations

from django.http import HttpRequest

from .exceptions import EventValidationError, MalformedBody, ServiceUnavailable
from .outcomes import Reason, Status
from .payload import parse_events
from .pipeline import process
from .reporting import report
from .timestamps import parse_iso8601_timestamp
from .views import segmentio_event

__all__ = [
    "ERROR_INVALID_CONTEXT_FIELD_TYPE",
    "ERROR_INVALID_DATA_FIELD_TYPE",
    "ERROR_INVALID_USER_ID",
    "ERROR_MISSING_DATA",
    "ERROR_MISSING_NAME",
    "ERROR_MISSING_RECEIVED_AT",
    "ERROR_MISSING_TIMESTAMP",
    "ERROR_MISSING_USER_ID",
    "ERROR_UNAUTHORIZED",
    "ERROR_USER_NOT_EXIST",
    "EventValidationError",
    "parse_iso8601_timestamp",
    "segmentio_event",
    "track_segmentio_event",
]

#: Of no reason: a request without credentials is refused before there is an event.
ERROR_UNAUTHORIZED = "The request does not carry the configured credentials."
ERROR_MISSING_USER_ID = Reason.MISSING_USER_ID.description
ERROR_USER_NOT_EXIST = Reason.USER_NOT_FOUND.description
ERROR_INVALID_USER_ID = Reason.INVALID_USER_ID.description
ERROR_INVALID_CONTEXT_FIELD_TYPE = Reason.INVALID_CONTEXT.description
ERROR_INVALID_DATA_FIELD_TYPE = Reason.INVALID_DATA.description
ERROR_MISSING_DATA = Reason.MISSING_DATA.description
ERROR_MISSING_NAME = Reason.MISSING_NAME.description
ERROR_MISSING_TIMESTAMP = Reason.MISSING_TIMESTAMP.description
ERROR_MISSING_RECEIVED_AT = Reason.MISSING_RECEIVED_AT.description


def track_segmentio_event(request: HttpRequest) -> None:
    """Record the single event in the request's body, without checking any credential.

    Here and now, in queue mode too. Returns for an event that was emitted or ignored, or has been
    recorded before.

    Raises EventValidationError for an event that was rejected, with the reason's description for a
    text, which is the matching constant where there is one, and for a body that is not one JSON
    object; ServiceUnavailable if the event could not be recorded for a reason that is not its own;
    ImproperlyConfigured for a wrong setting; and what `request.body` raises, such as
    RequestDataTooBig, since Django's DATA_UPLOAD_MAX_MEMORY_SIZE does apply here:
    https://docs.djangoproject.com/en/stable/ref/settings/#data-upload-max-memory-size.
    """
    try:
        payload = parse_events(request.body)
    except MalformedBody:
        raise EventValidationError("The body is not valid JSON.") from None
    if payload.single is None:
        raise EventValidationError(Reason.NOT_AN_OBJECT.description)
    (outcome,) = process(payload).outcomes
    report([outcome], single=payload.single)
    if outcome.reason and outcome.status is Status.REJECTED:
        raise EventValidationError(outcome.reason.description)
    if outcome.reason and outcome.status is Status.FAILED:
        raise ServiceUnavailable(outcome.reason.description)
