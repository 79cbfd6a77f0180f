"""`manage.py segmentio_replay PATH…`: Segment's archives through the same pipeline."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Self, TextIO

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from ... import conf
from ...console import DescribedCommand, tabulate
from ...exceptions import ServiceUnavailable
from ...outcomes import Reason, Status
from ...replay import (
    LEFT_OUT,
    MAX_LINE_BYTES,
    STANDARD_INPUT,
    Archive,
    Batch,
    BrokenLine,
    Checkpoint,
    Flaw,
    Options,
    Place,
    Progress,
    ReplayError,
    Report,
    locate,
    replay,
    show,
)
from ...signals import events_unrecorded
from ...timestamps import parse_iso8601_timestamp

_DEFAULTS = Options()

_DESCRIPTION = f"""\
Send Segment's archives through the pipeline that deliveries go through: files
of JSON lines, one event each, as Segment stores them in S3 and elsewhere.

Files may be compressed with gzip or not, whatever they are called. Directories
are walked in sorted order. Lines that hold no JSON are passed over and counted,
and so is what cannot be read of a file. The first ten of a file are named here,
and all of them in the report.

Events are recorded here and now, in queue mode too: nothing is left to Celery.
What the platform's middleware adds to an event of a request, such as its host,
is not there, and the time of emission is that of the replay.

Whether an event that has been recorded before is recorded again depends on the
site's deduplication:
  {conf.DEDUPLICATION_SECONDS.name}
      is for how long an event is known. Off, or too short to reach back to the
      last delivery or replay of an event, it is recorded again. On, the cache
      has to hold the identities of as many events as are replayed.
"""

_EPILOG = """\
Each rejection is logged at INFO and each failure at ERROR, as for a delivery,
and the app's signals are sent, once for each batch; not so in a dry run.

Interrupted (Ctrl-C, or SIGTERM), the command finishes the batch in hand; a
second time, it does not. With --resume FILE, the same command goes on where it
ended, even if it was killed. What was emitted of a batch that was killed is
known if deduplication is on, except for what had been emitted and not yet
noted: at the most one batch, which is emitted again.

The exit status is 0 if every line could be read and no event failed, 1 if not
or if the run broke off, and 130 if it was interrupted. Events that are
rejected, ignored or duplicates are no failures.

examples:
  What would become of a day's events:
    manage.py segmentio_replay --dry-run segment-logs/7Kx2/1772409600000

  The events of an outage, with a list of what was not emitted:
    manage.py segmentio_replay segment-logs --resume replay.json \\
        --since 2026-03-02T09:00Z --until 2026-03-02T11:30Z \\
        --report not-emitted.jsonl

  From a bucket, without a copy on this machine:
    aws s3 cp s3://bucket/segment-logs/7Kx2/1772409600000/a.gz - |
        manage.py segmentio_replay -
"""

#: How many broken lines of a file are named, before the rest is only counted.
_MAX_NAMED = 10

#: How often the progress is written to a terminal if there is no bar.
_SECONDS_BETWEEN_LINES = 10.0

_FLAWS = {
    Flaw.NOT_JSON: "not a JSON value",
    Flaw.TOO_LONG: f"longer than {MAX_LINE_BYTES:,} bytes",
    Flaw.UNREADABLE: "cannot be read from here on",
}


class Command(DescribedCommand):
    """Reads the options, replays, shows how far it is, and reports counts by outcome and reason."""

    help = _DESCRIPTION
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "paths",
            nargs="+",
            metavar="PATH",
            help="a file, a directory, or - for standard input",
        )
        what = parser.add_argument_group("what to replay")
        what.add_argument(
            "--since",
            metavar="TIME",
            help="leave out events that Segment received before this, by their receivedAt: an "
            "outage is a time at which deliveries did not arrive, while an event's own timestamp "
            "can lie days before. ISO 8601; without an offset it is UTC, without a time midnight. "
            "An event without a readable receivedAt is not left out",
        )
        what.add_argument(
            "--until",
            metavar="TIME",
            help="leave out events that Segment received at this time or later",
        )
        how = parser.add_argument_group("how to record it")
        how.add_argument(
            "--dry-run",
            action="store_true",
            help="only say what would happen: ask the database for the users, but emit nothing, "
            "keep nothing and leave the cache alone. Duplicates are not told apart",
        )
        how.add_argument(
            "--no-deduplication",
            action="store_true",
            help="emit what has been recorded before, too, and do not remember what is emitted",
        )
        how.add_argument(
            "--quarantine",
            action="store_true",
            help="keep events that are rejected or fail, as those of deliveries are kept. Not so "
            "by default: the archive has them, and a large one would drive out of the quarantine "
            "what stands nowhere else",
        )
        how.add_argument(
            "--batch-size",
            type=int,
            default=_DEFAULTS.batch_size,
            metavar="N",
            help="how many lines share a user query; %(default)s by default",
        )
        how.add_argument(
            "--patience",
            type=float,
            default=_DEFAULTS.patience,
            metavar="SECONDS",
            help="for how long to try a database again that does not answer, and events that "
            "another process has claimed; %(default)g by default",
        )
        files = parser.add_argument_group("files to write")
        files.add_argument(
            "--report",
            metavar="FILE",
            help="write a JSON line for each line that was not emitted: its file and number, the "
            "messageId, and the reason; what --since and --until leave out is not in it",
        )
        files.add_argument(
            "--resume",
            metavar="FILE",
            help="go on where the run that wrote this file has got to, and note there how far this "
            "one gets; if there is no such file, begin at the beginning. Lines of standard input "
            "that were read before are passed over",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay, and report.

        Raises CommandError for unusable options and for a run that broke off, with the exit status
        130 if it was interrupted; and at the end, if lines were broken or events failed.
        """
        _check(options)
        since, until = (_read_time(options, name) for name in ("since", "until"))
        archive = Archive(options["paths"], since=since, until=until)
        checkpoint = _find_checkpoint(options, since, until)
        with ExitStack() as stack:
            try:
                progress = (checkpoint and checkpoint.load()) or Progress()
                if checkpoint:
                    # Rather now than after the first batch, if it cannot be written.
                    checkpoint.save(progress)
                report_file = _open_report(options, progress, stack)
                self._announce(options, progress)
            except (ReplayError, ImproperlyConfigured) as error:
                raise CommandError(str(error)) from None
            lines_before, started = progress.counts.total(), time.monotonic()
            problem, returncode = self._replay(options, archive, progress, checkpoint, report_file)
        total = ("total", "", f"{progress.counts.total():,}")
        rows = [*_list_counts(progress.counts), total]
        for row in tabulate(("outcome", "reason", "lines"), rows):
            self.stdout.write(row)
        lines, seconds = progress.counts.total() - lines_before, time.monotonic() - started
        self.stdout.write(_describe_rate(lines, seconds))
        if problem:
            ending = _describe_end(progress.place, options)
            raise CommandError(f"{problem} {ending}", returncode=returncode)
        _judge(progress.counts)

    def _replay(
        self,
        options: dict[str, Any],
        archive: Archive,
        progress: Progress,
        checkpoint: Checkpoint | None,
        report_file: Report | None,
    ) -> tuple[str, int]:
        """Replay, and return why the run broke off, with the exit status; nothing if it did not."""
        lines_before = progress.counts.total()
        try:
            with (
                _Interruptions() as interruptions,
                closing(self._make_display(archive, options)) as display,
            ):

                def wait(seconds: float, why: str) -> None:
                    display.say(f"{why}: trying again in {seconds:g} s.")
                    interruptions.sleep(seconds)

                broken_lines = _BrokenLines(display)
                for batch in replay(
                    archive,
                    progress,
                    _find_options(options),
                    checkpoint=checkpoint,
                    report_file=report_file,
                    hold=interruptions.held_back,
                    wait=wait,
                ):
                    broken_lines.name(batch)
                    display.update(archive.bytes_read, progress.counts.total() - lines_before)
                broken_lines.finish()
        except KeyboardInterrupt:
            return "Interrupted.", 130
        except ServiceUnavailable:
            return "The database does not answer.", 1
        except (ImproperlyConfigured, ReplayError) as error:
            return f"Stopped: {error}", 1
        return "", 0

    def _announce(self, options: dict[str, Any], progress: Progress) -> None:
        notes = []
        if options["dry_run"]:
            notes.append("Dry run: nothing is emitted. This is what would happen.")
        elif not (options["no_deduplication"] or conf.DEDUPLICATION_SECONDS.get()):
            notes.append(
                f"Deduplication is off ({conf.DEDUPLICATION_SECONDS.name} is 0): what has been "
                "recorded before is recorded again."
            )
        if progress.place.file_number:
            notes.append(
                f"Going on after {_describe_place(progress.place)}. The counts are those of all "
                "runs together."
            )
        for note in notes:
            self.stderr.write(note, self.style.WARNING)

    def _make_display(self, archive: Archive, options: dict[str, Any]) -> _Display:
        def say(text: str) -> None:
            self.stderr.write(text, self.style.WARNING)

        if not self.stderr.isatty():
            return _Display(say)
        total = archive.measure()
        try:
            from tqdm import tqdm
        except ImportError:
            return _Lines(say, total)
        stream = options.get("stderr") or sys.stderr
        knows_width = _knows_width(stream)
        bar = tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            miniters=1,
            file=stream,
            dynamic_ncols=knows_width,
            ncols=None if knows_width else 80,
        )
        return _Bar(say, bar)


def _knows_width(terminal: TextIO) -> bool:
    """Tell whether the terminal says how wide it is; within one of no width tqdm shows nothing."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns > 0
    except OSError:
        return False


def _check(options: dict[str, Any]) -> None:
    if options["batch_size"] < 1:
        raise CommandError("--batch-size must be at least 1.")
    if not options["patience"] >= 0:
        raise CommandError("--patience must be at least 0.")
    if options["paths"].count(STANDARD_INPUT) > 1:
        raise CommandError("Standard input can be read only once.")
    for path in options["paths"]:
        if path != STANDARD_INPUT and not os.path.exists(path):
            raise CommandError(f"{show(path)}: No such file or directory")
    if options["dry_run"] and options["resume"]:
        raise CommandError("--resume is for runs that record something, not for --dry-run.")
    if options["quarantine"] and not events_unrecorded.has_listeners():
        raise CommandError(
            "--quarantine: nobody here keeps events; is segmentio_bridge.quarantine installed?"
        )
    written = [Path(options[name]).resolve() for name in ("report", "resume") if options[name]]
    if len(set(written)) < len(written):
        raise CommandError("--report and --resume must be two files.")
    for path in options["paths"]:
        if path != STANDARD_INPUT and any(
            file.is_relative_to(Path(path).resolve()) for file in written
        ):
            raise CommandError(f"--report and --resume must not lie within {show(path)}.")


def _read_time(options: dict[str, Any], name: str) -> datetime | None:
    value = options[name]
    try:
        return None if value is None else parse_iso8601_timestamp(value)
    except ValueError:
        raise CommandError(f"--{name}: not a time, such as 2026-03-02T09:15Z") from None


def _find_checkpoint(
    options: dict[str, Any], since: datetime | None, until: datetime | None
) -> Checkpoint | None:
    if not options["resume"]:
        return None
    run = {
        "PATHs": [locate(path) for path in options["paths"]],
        "--since": since and since.isoformat(),
        "--until": until and until.isoformat(),
    }
    return Checkpoint(Path(options["resume"]), run)


def _find_options(options: dict[str, Any]) -> Options:
    return Options(
        batch_size=options["batch_size"],
        deduplicate=not options["no_deduplication"],
        dry_run=options["dry_run"],
        quarantine=options["quarantine"],
        patience=options["patience"],
    )


def _open_report(options: dict[str, Any], progress: Progress, stack: ExitStack) -> Report | None:
    if not options["report"]:
        return None
    report_file = Report(Path(options["report"]), progress.report_bytes)
    return stack.enter_context(closing(report_file))


def _list_counts(counts: Counter[str]) -> Iterator[tuple[str, str, str]]:
    kinds = [
        (Status.EMITTED, ""),
        *((status, reason) for status in Status for reason in Reason if reason.status is status),
        *(("broken", flaw) for flaw in Flaw),
        ("left out", LEFT_OUT),
    ]
    for outcome, reason in kinds:
        if count := counts[str(reason or outcome)]:
            yield outcome, reason, f"{count:,}"


def _describe_rate(lines: int, seconds: float) -> str:
    rate = lines / seconds if seconds else 0
    return f"{lines:,} lines in {seconds:,.1f} s: {rate:,.0f} per second"


def _describe_place(place: Place) -> str:
    if place.is_end_of_file:
        return f"the end of {show(place.file)}"
    return f"line {place.line:,} of {show(place.file)}"


def _describe_end(place: Place, options: dict[str, Any]) -> str:
    if not place.file_number:
        return "Nothing has been recorded."
    reached = f"It got to {_describe_place(place)}"
    if options["resume"]:
        return f"{reached}; the same command goes on there (--resume {options['resume']})."
    return f"{reached}; with --resume FILE, the same command would go on there."


def _judge(counts: Counter[str]) -> None:
    broken = sum(counts[flaw] for flaw in Flaw)
    failed = sum(counts[reason] for reason in Reason if reason.status is Status.FAILED)
    if broken or failed:
        raise CommandError(f"Broken lines: {broken:,}. Failed events: {failed:,}.")


class _Interruptions:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, where that does no harm.

    Only the first of them: what comes after it has its usual effect.
    """

    def __init__(self) -> None:
        self._is_held_back = False
        self._has_come = False
        self._usual: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # What a shell has run in the background is not meant to be interrupted.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before = signal.signal(number, self._interrupt)
                    self._usual[number] = before or signal.SIG_DFL
        return self

    def __exit__(self, *error: object) -> None:
        while self._usual:
            signal.signal(*self._usual.popitem())

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Let an interruption wait for the end of the block."""
        self._is_held_back = True
        try:
            yield
        finally:
            self._is_held_back = False
        self._raise_if_due()

    def sleep(self, seconds: float) -> None:
        """Sleep for so long, or until an interruption, within a block that holds it back."""
        self._is_held_back = False
        self._raise_if_due()
        time.sleep(seconds)
        self._is_held_back = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.__exit__()
        self._has_come = True
        if not self._is_held_back:
            raise KeyboardInterrupt

    def _raise_if_due(self) -> None:
        if self._has_come:
            raise KeyboardInterrupt


class _Display:
    """What a pipe gets to see: nothing but what has to be said."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def update(self, bytes_read: int, lines: int) -> None:
        """Show how far the run is."""

    def close(self) -> None:
        """Show no more."""


class _Lines(_Display):
    """A line now and then, for a terminal where tqdm is not installed."""

    def __init__(self, say: Callable[[str], None], total: int | None) -> None:
        super().__init__(say)
        self._total = total
        self._started = time.monotonic()
        self._due = self._started

    def update(self, bytes_read: int, lines: int) -> None:
        """Write a line if the last one is old enough."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _SECONDS_BETWEEN_LINES
        share = f"{min(bytes_read / self._total, 1):.0%}, " if self._total else ""
        rate = _describe_rate(lines, now - self._started)
        self.say(f"{share}{bytes_read / 2**20:,.1f} MiB, {rate}")


class _Bar(_Display):
    """A progress bar."""

    def __init__(self, say: Callable[[str], None], bar: Any) -> None:
        super().__init__(say)
        self._bar = bar
        self._write = say
        self.say = self._say
        self._started = time.monotonic()

    def update(self, bytes_read: int, lines: int) -> None:
        """Move the bar."""
        seconds = time.monotonic() - self._started
        rate = lines / seconds if seconds else 0
        self._bar.set_postfix_str(f"{lines:,} events, {rate:,.0f}/s", refresh=False)
        self._bar.update(bytes_read - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _say(self, text: str) -> None:
        self._bar.clear()
        self._write(text)
        self._bar.refresh()


class _BrokenLines:
    """Names the first broken lines of each file, and counts the rest."""

    def __init__(self, display: _Display) -> None:
        self._display = display
        self._file = ""
        self._count = 0

    def name(self, batch: Batch) -> None:
        """Name those of a batch."""
        for line in batch.broken:
            self._name(line)

    def finish(self) -> None:
        """Tell how many of the last file's have not been named."""
        if self._count > _MAX_NAMED:
            self._display.say(f"{show(self._file)}: {self._count - _MAX_NAMED:,} more broken lines")

    def _name(self, line: BrokenLine) -> None:
        if line.file != self._file:
            self.finish()
            self._file, self._count = line.file, 0
        self._count += 1
        # Whatever is wrong with a file as a whole is said at any rate.
        if self._count <= _MAX_NAMED or line.flaw is Flaw.UNREADABLE:
            detail = f" ({line.detail})" if line.detail else ""
            self._display.say(f"{show(line.file)}:{line.number}: {_FLAWS[line.flaw]}{detail}")
