"""What the quarantine keeps."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from ..outcomes import Reason
from ..outcomes import Status as OutcomeStatus
from .fields import WireCharField, WireTextField


class Status(models.TextChoices):
    """What has been done about an event."""

    PENDING = "pending", "pending"
    RELEASED = "released", "released"
    DISCARDED = "discarded", "discarded"


#: The reasons that an event can be in the quarantine for. One that is rejected or failed gets
#: there; one that is released while the settings say to ignore it stays.
REASONS = {
    reason.value: reason for reason in Reason if reason.status is not OutcomeStatus.DUPLICATE
}

#: In characters, as `fields.clean` counts them. MySQL's oldest row format has room for an id in an
#: index.
MAX_ID_LENGTH = 150
MAX_NAME_LENGTH = 255
MAX_DETAIL_LENGTH = 500


class QuarantinedEvent(models.Model):
    """An event that was rejected or failed, or a body that is no JSON, with the reason why.

    All of it is untrusted. It comes from outside, and has been checked for nothing: the sender knew
    the secret, which may have leaked, and the device that made the event may be anybody's. Whatever
    shows or uses a row has to treat it like a request's input.

    Nothing but status, reason, detail, attempts and the time of the last attempt changes after the
    row was made.

    .. pii: The payload is what a learner's device sent: ids, usually an email address, an IP
        address and a location, and whatever the event tells. `manage.py segmentio_prune --user-id`
        retires a learner: it deletes all events that carry their user id. What carries none, such
        as a body that is no JSON, is deleted by `manage.py segmentio_prune` when it is older than
        TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS.
    .. pii_types: id, username, email_address, ip, location, other
    .. pii_retirement: local_api
    """

    message_id = WireCharField("message id", max_length=MAX_ID_LENGTH, blank=True)
    #: The userId that the event carries, whether there is such a user or not.
    user_id = WireCharField("user id", max_length=MAX_ID_LENGTH, blank=True)
    event_name = WireCharField("event", max_length=MAX_NAME_LENGTH, blank=True)
    # Without choices: a new reason needs no migration, and a row outlives its reason.
    reason = models.CharField("reason", max_length=50)
    #: What the event has where the reason finds fault with it, or what is wrong with a body.
    detail = WireCharField("detail", max_length=MAX_DETAIL_LENGTH, blank=True)
    #: The JSON as it was received. Bytes that are no UTF-8, which only a body that is no JSON can
    #: have, are surrogates as Python's surrogateescape makes them.
    payload = WireTextField("payload")
    status = models.CharField(
        "status", max_length=10, choices=Status.choices, default=Status.PENDING
    )
    #: How many times its release was tried.
    attempts = models.PositiveIntegerField("attempts", default=0)
    created_at = models.DateTimeField("created at", default=timezone.now)
    last_attempt_at = models.DateTimeField("last attempt", null=True, blank=True)

    class Meta:
        verbose_name = "quarantined event"
        ordering = ("-created_at", "-id")
        indexes = (
            # The list in its order, its filter by date, and what prunes by age. The reason makes it
            # all that the chart needs: a database that looked up 100,000 rows would take seconds.
            models.Index(fields=["created_at", "id", "reason"], name="segmentio_quarantine_age"),
            # The list's filter by status, and what is released.
            models.Index(fields=["status", "created_at"], name="segmentio_quarantine_status"),
            # The list's filter by reason, and what is released by reason.
            models.Index(fields=["reason", "created_at"], name="segmentio_quarantine_reason"),
            # The list's search, and the retirement of a user.
            models.Index(fields=["message_id"], name="segmentio_quarantine_message"),
            models.Index(fields=["user_id"], name="segmentio_quarantine_user"),
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.event_name or self.message_id or 'unnamed'}"

    @property
    def raw(self) -> bytes:
        """The payload's bytes, as they were received."""
        return self.payload.encode("utf-8", "surrogateescape")

    def find_reason(self) -> Reason | None:
        """Return the reason, or None for one that this version does not know."""
        return REASONS.get(self.reason)
