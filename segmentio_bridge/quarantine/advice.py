"""What to do about a quarantined event, by its reason."""

from __future__ import annotations

from ..outcomes import Reason

_AT_ITS_SOURCE = (
    "The event cannot be mended here. Find the app and the version that send it (context.app in "
    "the payload) and have them changed; then discard it."
)

_RULES = (
    "Releasing follows the settings as they are now. If the event is wanted, change {setting} and "
    "release it; if not, discard it."
)

_ADVICE = {
    Reason.MALFORMED_BODY: (
        "Such a body cannot be released. Look at where it breaks off: a proxy that cuts bodies, "
        "or a sender that is not Segment. Segment does not send it again. Discard it when you "
        "have seen enough."
    ),
    Reason.NOT_AN_OBJECT: (
        "Something else than an event was in a batch. Look at the mapping of the destination in "
        "Segment, which should send the whole event ($event); then discard it."
    ),
    Reason.UNKNOWN_SOURCE: _RULES.format(setting="TRACKING_SEGMENTIO_SOURCE_MAP"),
    Reason.UNSUPPORTED_TYPE: _RULES.format(setting="TRACKING_SEGMENTIO_ALLOWED_TYPES"),
    Reason.TOO_DEEP: _AT_ITS_SOURCE,
    Reason.INVALID_PROPERTIES: _AT_ITS_SOURCE,
    Reason.MISSING_NAME: _AT_ITS_SOURCE,
    Reason.INVALID_NAME: _AT_ITS_SOURCE,
    Reason.DISALLOWED_NAME: _RULES.format(setting="TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES"),
    Reason.MISSING_DATA: _AT_ITS_SOURCE,
    Reason.INVALID_DATA: _AT_ITS_SOURCE,
    Reason.INVALID_CONTEXT: _AT_ITS_SOURCE,
    Reason.MISSING_USER_ID: (
        "Nobody was signed in when the app sent it, or the app does not call identify(). It "
        "cannot be recorded without a user: discard it."
    ),
    Reason.MISSING_TIMESTAMP: (
        "Segment adds the timestamp. Look at the mapping of the destination in Segment, which "
        "should send the whole event ($event); then discard it."
    ),
    Reason.INVALID_TIMESTAMP: (
        "Segment computes the timestamp from the device's clock. A single one is a device whose "
        "clock is wrong: discard it. Many are a mapping in Segment that changes the field."
    ),
    Reason.MISSING_RECEIVED_AT: (
        "Segment adds receivedAt. Look at the mapping of the destination in Segment, which should "
        "send the whole event ($event); then discard it."
    ),
    Reason.INVALID_RECEIVED_AT: (
        "Segment writes receivedAt itself. Look at the mapping of the destination in Segment; "
        "then discard it."
    ),
    Reason.INVALID_USER_ID: (
        "The app has to call identify() with the primary key of the site's user, not with a "
        "username or an email address. Have it changed; then discard the event."
    ),
    Reason.USER_NOT_FOUND: (
        "If the user is about to come, from an import or another system, release the event when "
        "they are there. If the user has been deleted, or the app belongs to another site, "
        "discard it."
    ),
    Reason.IN_PROGRESS: (
        "Another process was recording the event. Release it in a minute: if it has been "
        "recorded, that is noticed, and it is not recorded twice."
    ),
    Reason.TRACKER_DISABLED: (
        "Set EVENT_TRACKING_ENABLED, add event-tracking's app to INSTALLED_APPS and restart the "
        "site; manage.py check tells when it is right. Then release the event."
    ),
    Reason.DATABASE_UNAVAILABLE: "Release the event now that the database answers again.",
    Reason.EMISSION_FAILED: (
        "The traceback stands in the log segmentio_bridge, at the time of the attempt. Mend its "
        "cause, a backend or a processor of event-tracking; then release the event."
    ),
    Reason.INTERNAL_ERROR: (
        "The traceback stands in the log segmentio_bridge, at the time of the attempt. It is a "
        "defect of segmentio_bridge, or of the user model: report it, and release the event when "
        "it is mended."
    ),
}

_ADVICE_ON_UNKNOWN = "Release the event: this version gives it a reason that it knows."


def advise(reason: Reason | None) -> str:
    """Return what to do, in a few sentences; None is a reason that this version does not know.

    Raises KeyError for `duplicate`, for which nothing is in the quarantine.
    """
    return _ADVICE_ON_UNKNOWN if reason is None else _ADVICE[reason]
