"""The table of quarantined events."""

from __future__ import annotations

import django.utils.timezone
from django.db import migrations, models

import segmentio_bridge.quarantine.fields


class Migration(migrations.Migration):
    """Creates the table."""

    initial = True

    dependencies = ()

    operations = (
        migrations.CreateModel(
            name="QuarantinedEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "message_id",
                    segmentio_bridge.quarantine.fields.WireCharField(
                        blank=True, max_length=150, verbose_name="message id"
                    ),
                ),
                (
                    "user_id",
                    segmentio_bridge.quarantine.fields.WireCharField(
                        blank=True, max_length=150, verbose_name="user id"
                    ),
                ),
                (
                    "event_name",
                    segmentio_bridge.quarantine.fields.WireCharField(
                        blank=True, max_length=255, verbose_name="event"
                    ),
                ),
                ("reason", models.CharField(max_length=50, verbose_name="reason")),
                (
                    "detail",
                    segmentio_bridge.quarantine.fields.WireCharField(
                        blank=True, max_length=500, verbose_name="detail"
                    ),
                ),
                (
                    "payload",
                    segmentio_bridge.quarantine.fields.WireTextField(verbose_name="payload"),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("released", "released"),
                            ("discarded", "discarded"),
                        ],
                        default="pending",
                        max_length=10,
                        verbose_name="status",
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created at"
                    ),
                ),
                (
                    "last_attempt_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="last attempt"),
                ),
            ],
            options={
                "verbose_name": "quarantined event",
                "ordering": ("-created_at", "-id"),
                "indexes": [
                    models.Index(
                        fields=["created_at", "id", "reason"], name="segmentio_quarantine_age"
                    ),
                    models.Index(
                        fields=["status", "created_at"], name="segmentio_quarantine_status"
                    ),
                    models.Index(
                        fields=["reason", "created_at"], name="segmentio_quarantine_reason"
                    ),
                    models.Index(fields=["message_id"], name="segmentio_quarantine_message"),
                    models.Index(fields=["user_id"], name="segmentio_quarantine_user"),
                ],
            },
        ),
    )
