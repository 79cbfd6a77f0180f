"""What can be raised on the way: refusals of a whole delivery, and the facade's old exception.

Their texts quote nothing that came over the wire. A wrong setting raises Django's
ImproperlyConfigured instead.
"""

from __future__ import annotations


class DeliveryRefused(Exception):
    """A delivery is not taken; each kind's `status_code` is the HTTP status of the answer."""

    status_code: int


class AuthenticationFailed(DeliveryRefused):
    """No credential is configured, or the request does not carry every configured one."""

    status_code = 401


class UnsupportedMediaType(DeliveryRefused):
    """The body is compressed, or something else than JSON."""

    status_code = 415


class BodyTooLarge(DeliveryRefused):
    """The body is larger than TRACKING_SEGMENTIO_MAX_BODY_BYTES."""

    status_code = 413


class IncompleteBody(DeliveryRefused):
    """The body could not be read to its declared end; the sender should try again."""

    status_code = 503


class MalformedBody(DeliveryRefused):
    """The body is not strict JSON with an object or an array at its top level."""

    status_code = 400


class ServiceUnavailable(DeliveryRefused):
    """Something the bridge depends on is down; the sender should try again."""

    status_code = 503


class EventValidationError(Exception):
    """The event was rejected; its text is the reason's description (the facade's constants)."""
