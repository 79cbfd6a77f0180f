"""`manage.py segmentio_prune`: deletes stored events that are old, dealt with, or somebody's."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db.models import Q
from django.utils import timezone

from .... import conf
from ....console import DescribedCommand, tabulate
from ...intake import identify_user
from ...models import REASONS, QuarantinedEvent, Status
from ...retention import count, find_oldest_kept, prune
from ..options import positive

_DESCRIPTION = f"""\
Delete quarantined events, whatever their status.

Without options, those that are older than {conf.QUARANTINE_RETENTION_DAYS.name}
days: run that once a day. Each option narrows down what is deleted, and with any
of them the retention no longer counts: give --days too, where age matters. An
option that is given several times takes any of its values.
"""

_EPILOG = """\
Events are deleted 500 at a time, the oldest first. The command can be interrupted
and run again.

examples:
  Every day, from cron:
    manage.py segmentio_prune

  What has been dealt with, after a week:
    manage.py segmentio_prune --status released --status discarded --days 7

  Everything that came with the user id 7, to retire that learner:
    manage.py segmentio_prune --user-id 7

  How many events are no JSON, deleting none:
    manage.py segmentio_prune --reason malformed_body --dry-run
"""


class Command(DescribedCommand):
    """Reads the options, deletes, and reports how many events of each status."""

    help = _DESCRIPTION
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--days", type=positive, metavar="N", help="only events older than N days"
        )
        parser.add_argument(
            "--status",
            action="append",
            choices=Status.values,
            metavar="STATUS",
            help="only events of this status; one of %(choices)s",
        )
        parser.add_argument(
            "--reason",
            action="append",
            choices=list(REASONS),
            metavar="REASON",
            help="only events that are here for this reason; one of %(choices)s",
        )
        parser.add_argument(
            "--user-id",
            action="append",
            metavar="ID",
            help="only events that carry this userId, whether there is such a user or not",
        )
        parser.add_argument("--all", action="store_true", help="all events, however young")
        parser.add_argument(
            "--dry-run", action="store_true", help="delete nothing: count what would be deleted"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, and report.

        Raises CommandError for options that contradict each other, for a wrong setting, and if the
        database does not answer.
        """
        try:
            condition = _select(options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        events = QuarantinedEvent.objects.filter(condition)
        try:
            counts = count(events) if options["dry_run"] else prune(events)
        except DatabaseError as error:
            # Not in its own words, which may quote what it was asked for.
            raise CommandError(f"The database does not answer ({type(error).__name__}).") from None
        self._report(counts, "would be deleted" if options["dry_run"] else "deleted")

    def _report(self, counts: Counter[str], title: str) -> None:
        rows = [(status, f"{number:,}") for status, number in sorted(counts.items())]
        for line in tabulate(("status", title), [*rows, ("all", f"{counts.total():,}")]):
            self.stdout.write(line)


def _select(options: dict[str, Any]) -> Q:
    """Return the condition that the options make together."""
    condition = Q()
    if options["days"]:
        # A century is as good as more, of which there may be no date.
        age = timedelta(days=min(options["days"], 36_500))
        condition &= Q(created_at__lt=timezone.now() - age)
    if options["status"]:
        condition &= Q(status__in=options["status"])
    if options["reason"]:
        condition &= Q(reason__in=options["reason"])
    if options["user_id"]:
        condition &= Q(user_id__in=[_identify(text) for text in options["user_id"]])
    if options["all"] and condition:
        raise CommandError("--all is for no other options.")
    if not condition and not options["all"]:
        condition = Q(created_at__lt=find_oldest_kept())
    return condition


def _identify(text: str) -> str:
    user_id = identify_user(text)
    if not user_id:
        # It would be found in each event that carries no user id at all.
        raise CommandError("--user-id must not be empty.")
    return user_id
