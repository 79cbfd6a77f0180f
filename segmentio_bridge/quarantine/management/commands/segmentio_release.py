"""`manage.py segmentio_release`: stored events through the pipeline once more."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db.models import Q, QuerySet

from ....console import DescribedCommand, tabulate
from ....exceptions import ServiceUnavailable
from ....outcomes import Reason, Status
from ...intake import identify_message
from ...models import REASONS, QuarantinedEvent
from ...preview import forecast
from ...release import Released, release_in_batches
from ..options import moment, positive

_DESCRIPTION = """\
Release quarantined events: send them through the pipeline once more, the oldest
first. An event that is emitted now, or turns out to have been recorded before,
is released. Any other stays pending, with the reason that it has now; bodies
that are no JSON (malformed_body) always do.

Without options all pending events are released; options narrow that down, and an
option that is given several times takes any of its values.
"""

_EPILOG = """\
The table counts what became of the events. The exit status is 0 if each of them
is released, and 1 if one that was tried, or could not be, stays pending.

It is safe to run this twice at the same time, or while somebody releases events
in the admin. If it is killed, up to 100 events that have just been emitted stay
pending, and are emitted again with the next run; deduplication prevents that.

examples:
  What would become of all pending events now, emitting nothing:
    manage.py segmentio_release --dry-run

  The users have been imported at last:
    manage.py segmentio_release --reason user_not_found

  An outage of the tracker last night:
    manage.py segmentio_release --reason emission_failed \\
        --since 2026-03-02T22:00 --until 2026-03-03T06:00
"""


class Command(DescribedCommand):
    """Reads the options, releases, and reports one line for each outcome."""

    help = _DESCRIPTION
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--reason",
            action="append",
            choices=list(REASONS),
            metavar="REASON",
            help="only events that are here for this reason; one of %(choices)s",
        )
        parser.add_argument(
            "--since",
            type=moment,
            metavar="TIME",
            help="only events that came at this moment or later: ISO 8601, in the site's time zone "
            "unless it has an offset",
        )
        parser.add_argument(
            "--until", type=moment, metavar="TIME", help="only events that came before this moment"
        )
        parser.add_argument(
            "--message-id", action="append", metavar="ID", help="only events with this messageId"
        )
        parser.add_argument(
            "--id",
            action="append",
            type=positive,
            metavar="N",
            help="only the event with this number in the quarantine",
        )
        parser.add_argument(
            "--limit", type=positive, metavar="N", help="release no more than the N oldest ones"
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="emit nothing and change nothing: count what would become of the events; whether "
            "they are duplicates is not looked up",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Release, and report.

        Raises CommandError if an event stays pending, the database fails, or a setting is wrong;
        and if it was interrupted, with the exit status 130.
        """
        events = QuarantinedEvent.objects.filter(_select(options))
        try:
            if options["dry_run"]:
                self._foresee(events, options["limit"])
            else:
                self._release(events, options["limit"], options["verbosity"])
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        except (DatabaseError, ServiceUnavailable) as error:
            # Not in its own words, which may quote what it was asked for.
            raise CommandError(f"The database does not answer ({type(error).__name__}).") from None

    def _release(
        self, events: QuerySet[QuarantinedEvent], limit: int | None, verbosity: int
    ) -> None:
        released = Released(Counter(), Counter())
        is_stopped = False
        try:
            for released in release_in_batches(events, limit):
                if verbosity > 1:
                    self.stdout.write(f"Not yet tried: {released.left:,}.")
        except KeyboardInterrupt:
            is_stopped = True
        self._report(released.recorded + released.pending)
        if released.skipped:
            self.stdout.write(
                f"No longer pending, or in the hands of another process: {released.skipped:,}."
            )
        if released.left:
            self.stdout.write(f"Not tried: {released.left:,}.")
        if is_stopped:
            raise CommandError("Interrupted; run it again to go on.", returncode=130)
        if released.is_interrupted:
            raise CommandError("The database did not answer; the log tells more.")
        if released.pending:
            raise CommandError(f"Still pending: {released.pending.total():,}.")

    def _foresee(self, events: QuerySet[QuarantinedEvent], limit: int | None) -> None:
        counts = forecast(events, limit)
        self._report(counts)
        pending = counts.total() - counts[Status.EMITTED]
        if pending:
            raise CommandError(f"Would stay pending: {pending:,}.")

    def _report(self, counts: Counter[str]) -> None:
        """Print a table of what became of the events, or would."""
        rows = [
            (reason.status.value, reason.value, f"{counts[reason]:,}")
            for reason in Reason
            if counts[reason]
        ]
        if counts[Status.EMITTED]:
            rows.insert(0, (Status.EMITTED.value, "-", f"{counts[Status.EMITTED]:,}"))
        total = ("all", "", f"{counts.total():,}")
        for line in tabulate(("outcome", "reason", "events"), [*rows, total]):
            self.stdout.write(line)


def _select(options: dict[str, Any]) -> Q:
    """Return the condition that the options make together."""
    condition = Q()
    if options["reason"]:
        condition &= Q(reason__in=options["reason"])
    if options["since"]:
        condition &= Q(created_at__gte=options["since"])
    if options["until"]:
        condition &= Q(created_at__lt=options["until"])
    if options["message_id"]:
        condition &= Q(message_id__in=[identify_message(text) for text in options["message_id"]])
    if options["id"]:
        condition &= Q(pk__in=options["id"])
    return condition
