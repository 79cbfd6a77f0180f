"""`manage.py segmentio_send URL`: plays Segment against a deployment."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from ... import conf
from ...console import DescribedCommand
from ...sender import (
    TIMEOUT_SECONDS,
    Answer,
    Credentials,
    Unsendable,
    Verdict,
    add_site_credentials,
    has_key,
    make_sample_event,
    read_events,
    send,
)

_DESCRIPTION = f"""\
Play Segment against a deployment: deliver events to URL, with Segment's headers
and time limit, and say what came back and what Segment would make of it.

Credentials come from this site's settings, so that nobody has to type a secret:
the other users of a machine can see what stands on a command line.
  {conf.WEBHOOK_SECRET.name}
      goes along as a bearer token, unless the URL has a key, or --key or
      --bearer is given.
  {conf.SIGNATURE_SECRET.name}
      signs the deliveries, unless --sign is given.
Of a list of secrets the first one counts. Let the URL begin with https:// for
any server that is not on this machine.

Sample events are recorded like all others. Their messageId begins with
"segmentio-send-".
"""

_EPILOG = """\
Each line shows the status of the answer, the number of events, the time from
connecting to the end of the answer, and a sentence. 200 says that the site took
the delivery, not that events were recorded: their user may not exist. What
became of them stands in the site's log "segmentio_bridge".

The exit status is 0 if every answer was 2xx, and 1 if one was not.

examples:
  One sample event, of the user with the primary key 7:
    manage.py segmentio_send https://your.site/segmentio/event --user-id 7

  1,000 sample events, 250 at a time:
    manage.py segmentio_send https://your.site/segmentio/event \\
        --count 1000 --batch 250

  Given events, one at a time, and from another program in batches:
    manage.py segmentio_send https://your.site/segmentio/event \\
        --events events.jsonl
    zcat archive.gz | manage.py segmentio_send \\
        https://your.site/segmentio/event --events - --batch 1000

  What a stranger gets, which should be 401:
    manage.py segmentio_send https://your.site/segmentio/event --no-credentials

  What somebody gets who has the key, but cannot sign:
    manage.py segmentio_send https://your.site/segmentio/event \\
        --no-credentials --bearer "$KEY"
"""

_MAX_TIMEOUT_SECONDS = 3600

_SENTENCES = {
    Verdict.DELIVERED: "Segment takes it for delivered.",
    Verdict.RETRIED: "Segment would retry it for up to four hours.",
    Verdict.DISCARDED: "Segment would discard it for good.",
}


class Command(DescribedCommand):
    """Reads the options, sends, and reports one line for each answer and one for all of them."""

    help = _DESCRIPTION
    epilog = _EPILOG
    # It is the site behind the URL that is tried, not this process.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "url", metavar="URL", help="the endpoint, as one would write it in Segment"
        )
        what = parser.add_argument_group("what to send")
        what.add_argument(
            "--events",
            metavar="FILE",
            help="send these instead of sample events: a JSON object, a JSON array, or JSON lines; "
            "- is standard input",
        )
        what.add_argument(
            "--user-id", metavar="ID", help="the userId of the sample events; 1 by default"
        )
        what.add_argument(
            "--count",
            type=int,
            metavar="N",
            help="how many sample events to send; by default 1, or one batch",
        )
        what.add_argument(
            "--batch",
            type=int,
            metavar="N",
            help="deliver JSON arrays of at most N events, instead of each event by itself; "
            "Segment's limit is 4,000",
        )
        credentials = parser.add_argument_group("credentials")
        credentials.add_argument(
            "--key", metavar="SECRET", help="send this key as ?key=, which ends up in access logs"
        )
        credentials.add_argument(
            "--bearer", metavar="SECRET", help="send this key as Authorization: Bearer"
        )
        credentials.add_argument(
            "--sign", metavar="SECRET", help="sign with this secret, in X-Signature"
        )
        credentials.add_argument(
            "--no-credentials",
            action="store_true",
            help="take nothing from the settings: send only what stands on the command line",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=TIMEOUT_SECONDS,
            metavar="SECONDS",
            help="how long to wait for an answer; %(default)g by default, as Segment does "
            "(its Actions destinations: 10)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Send, and report.

        Raises CommandError for unusable options and a wrong setting; if it was interrupted, with
        the exit status 130; and after everything was sent if not every answer was 2xx.
        """
        _check(options)
        answers: list[Answer] = []
        interrupted = False
        try:
            for answer in send(
                options["url"],
                _find_events(options),
                self._find_credentials(options),
                batch_size=options["batch"],
                timeout=options["timeout"],
            ):
                answers.append(answer)
                self.stdout.write(_describe(answer), self._find_style(answer.verdict))
                self.stdout.flush()
        except (Unsendable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            interrupted = True
        self.stdout.write(_summarize(answers))
        if interrupted:
            raise CommandError("Interrupted.", returncode=130)
        failures = sum(answer.verdict is not Verdict.DELIVERED for answer in answers)
        if failures:
            raise CommandError(f"Not delivered: {failures} of {len(answers)}.")

    def _find_credentials(self, options: dict[str, Any]) -> Credentials:
        url: str = options["url"]
        given = Credentials(
            key=options["key"], bearer=options["bearer"], signature_secret=options["sign"]
        )
        if options["no_credentials"]:
            return given
        credentials = add_site_credentials(given, url)
        if credentials == Credentials() and not has_key(url):
            self.stderr.write(
                f"No credential is sent: neither {conf.WEBHOOK_SECRET.name} nor "
                f"{conf.SIGNATURE_SECRET.name} is set here, and none is given.",
                self.style.WARNING,
            )
        return credentials

    def _find_style(self, verdict: Verdict) -> Callable[[str], str]:
        styles: dict[Verdict, Callable[[str], str]] = {
            Verdict.DELIVERED: self.style.SUCCESS,
            Verdict.RETRIED: self.style.WARNING,
            Verdict.DISCARDED: self.style.ERROR,
        }
        return styles[verdict]


def _check(options: dict[str, Any]) -> None:
    for name in ("count", "batch"):
        if options[name] is not None and options[name] < 1:
            raise CommandError(f"--{name} must be at least 1.")
    # Not only too small: an endless or undefined time cannot be waited for.
    if not 0 < options["timeout"] <= _MAX_TIMEOUT_SECONDS:
        raise CommandError(
            f"--timeout must be more than 0 and at most {_MAX_TIMEOUT_SECONDS} seconds."
        )
    if options["events"] is not None:
        for name in ("user_id", "count"):
            if options[name] is not None:
                option = name.replace("_", "-")
                raise CommandError(f"--{option} is for sample events; given ones go as they are.")


def _find_events(options: dict[str, Any]) -> Iterable[Any]:
    if options["events"] is not None:
        return _read_events(options["events"])
    count = options["count"] or options["batch"] or 1
    user_id = "1" if options["user_id"] is None else options["user_id"]
    # Made one by one, so that each happens when it is sent.
    return (make_sample_event(user_id) for _ in range(count))


def _read_events(name: str) -> list[Any]:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        events = read_events(content)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from None
    except Unsendable as error:
        raise CommandError(f"{name}: {error}") from None
    if not events:
        raise CommandError(f"{name}: no events")
    return events


def _describe(answer: Answer) -> str:
    status = "-" if answer.status is None else answer.status
    return (
        f"{status:>3}  {_count(answer.events, 'event', 'events'):>11}  "
        f"{_milliseconds(answer.seconds):>10}  {answer.description}: {_SENTENCES[answer.verdict]}"
    )


def _summarize(answers: Sequence[Answer]) -> str:
    """Return totals in one line; the times are those of the deliveries that were answered."""
    statuses = Counter(
        "no answer" if answer.status is None else str(answer.status) for answer in answers
    )
    events = sum(answer.events for answer in answers)
    parts = [
        f"{_count(len(answers), 'delivery', 'deliveries')}, {_count(events, 'event', 'events')}",
        *(f"{status}: {statuses[status]}" for status in sorted(statuses)),
    ]
    times = [answer.seconds for answer in answers if answer.status is not None]
    if times:
        parts.append(
            f"p50 {_milliseconds(statistics.median(times))}, slowest {_milliseconds(max(times))}"
        )
    return "; ".join(parts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
