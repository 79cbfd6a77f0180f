"""Segment's archives through the same pipeline: from files of JSON lines to outcomes, in batches.

The files are those of https://segment.com/docs/connections/storage/catalog/aws-s3/. What they hold
is trusted in nothing, and memory does not grow with them, nor with a line. What has been recorded
is noted in a checkpoint after each batch, so that a run that ends before its time can be gone on
with.

Raises ReplayError, whose words quote no event, and of what the pipeline raises ServiceUnavailable
and ImproperlyConfigured.
"""

from __future__ import annotations

import enum
import gzip
import io
import json
import os
import stat
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from django.db import close_old_connections

from .deduplication import LEASE_SECONDS
from .exceptions import MalformedBody, ServiceUnavailable
from .outcomes import Outcome, Reason, Status
from .payload import Payload, parse_events
from .pipeline import keep, record
from .reporting import report
from .timestamps import parse_iso8601_timestamp

#: The path that stands for standard input.
STANDARD_INPUT = "-"

#: A longer line is broken. Segment takes no event of more than 32 KB:
#: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/.
MAX_LINE_BYTES = 1024 * 1024

#: A batch ends with the line that exceeds this, whatever its number of lines.
MAX_BATCH_BYTES = 16 * 1024 * 1024

#: The waits between attempts double from one second up to this.
MAX_WAIT_SECONDS = 30.0

#: What an event is counted as that a run was told to leave out.
LEFT_OUT = "outside_period"


class ReplayError(Exception):
    """A run cannot begin, go on where another has ended, or write down what it has done."""


class Flaw(enum.StrEnum):
    """Why a line of an archive holds no raw event."""

    #: No JSON value as a delivery could hold it, or more than one.
    NOT_JSON = "not_json"
    #: More than MAX_LINE_BYTES.
    TOO_LONG = "too_long"
    #: From this line on, the file cannot be read.
    UNREADABLE = "unreadable"


class Line(NamedTuple):
    """A line of an archive; they count from 1.

    `text` is what it has but for white space at its ends, at most MAX_LINE_BYTES.
    """

    file: str
    number: int
    text: bytes


class BrokenLine(NamedTuple):
    """A line that holds no raw event; of what cannot be read, the first."""

    file: str
    number: int
    flaw: Flaw
    #: What the operating system says, if it says anything.
    detail: str = ""


class Place(NamedTuple):
    """How far an archive has been read; at first, nowhere."""

    #: Which file of the archive it is; they count from 1.
    file_number: int = 0
    #: Its absolute path, or STANDARD_INPUT.
    file: str = ""
    #: The last line that has been read.
    line: int = 0
    #: Whether nothing of the file is left to be read.
    is_end_of_file: bool = False


class Period(NamedTuple):
    """The time from `since` on and before `until`."""

    since: datetime
    until: datetime

    def includes(self, raw: object) -> bool:
        """Tell whether Segment received the raw event then, or when is not to be made out."""
        value = raw.get("receivedAt") if isinstance(raw, dict) else None
        if not isinstance(value, str):
            return True
        try:
            return self.since <= parse_iso8601_timestamp(value) < self.until
        except ValueError:
            return True


@dataclass
class Batch:
    """Lines that are recorded together, with one user query."""

    #: The end of its last line.
    place: Place
    #: Events outside of it are left out; None for none.
    period: Period | None = None
    #: What has been read.
    found: list[Line | BrokenLine] = field(default_factory=list)
    #: Of these lines, those with a raw event that is not left out.
    lines: list[Line] = field(default_factory=list)
    #: Of what has been read, the lines with no raw event.
    broken: list[BrokenLine] = field(default_factory=list)
    #: How many events are outside of the period.
    left_out: int = 0
    #: What became of each of `lines`.
    outcomes: list[Outcome] = field(default_factory=list)
    _bytes: int = 0

    def add(self, item: Line | BrokenLine) -> None:
        """Add a line that has been read."""
        self.found.append(item)
        if isinstance(item, Line):
            self._bytes += len(item.text)

    def is_full(self, size: int) -> bool:
        """Tell whether the batch has `size` lines, or more than MAX_BATCH_BYTES."""
        return len(self.found) >= size or self._bytes > MAX_BATCH_BYTES

    def parse(self) -> Iterator[Any]:
        """Yield the raw event of each of `lines`, which are known by the end, like what is broken.

        One after the other, like those of a delivery, so that few of them exist at once.
        """
        self.lines, self.broken, self.left_out = [], [], 0
        for item in self.found:
            if isinstance(item, BrokenLine):
                self.broken.append(item)
                continue
            try:
                # Each by itself: joined, two broken lines can make an event, and one line make two.
                (raw,) = parse_events(b"[%b]" % item.text)
            except (MalformedBody, ValueError):
                self.broken.append(BrokenLine(item.file, item.number, Flaw.NOT_JSON))
                continue
            if self.period and not self.period.includes(raw):
                self.left_out += 1
                continue
            self.lines.append(item)
            yield raw


class Archive:
    """The JSON lines in files, in the files of directories, or in standard input, one by one.

    Events that Segment received before `since`, or at `until` or later, are left out. One that does
    not say when is not: the pipeline rejects it.
    """

    def __init__(
        self, paths: Sequence[str], *, since: datetime | None = None, until: datetime | None = None
    ) -> None:
        self._paths = paths
        self._period = Period(since or _BEGINNING, until or _END) if since or until else None
        self._bytes_of_files = 0
        self._stored: _StoredBytes | None = None

    @property
    def bytes_read(self) -> int:
        """How many bytes have been read or passed over, as they are stored: before expansion."""
        return self._bytes_of_files + (self._stored.bytes_read if self._stored else 0)

    def measure(self) -> int | None:
        """Return the size of all files in bytes; None if that cannot be known."""
        total = 0
        for file in find_files(self._paths):
            size = _find_size(file)
            if size is None:
                return None
            total += size
        return total

    def read_batches(self, size: int, start: Place) -> Iterator[Batch]:
        """Yield the lines after `start`, in batches of `size`; the last has what is left, if any.

        A batch has fewer lines if they are more than MAX_BATCH_BYTES. Empty lines are passed over,
        and what cannot be read of a file is a broken line.

        Raises ReplayError if `start` is no longer to be found where it was.
        """
        batch = Batch(start, self._period)
        for file_number, file in self._find_files(start):
            read_already = start.line if file_number == start.file_number else 0
            for item in self._read_file(file, read_already):
                batch.add(item)
                is_last = isinstance(item, BrokenLine) and item.flaw is Flaw.UNREADABLE
                batch.place = Place(file_number, locate(file), item.number, is_last)
                if batch.is_full(size):
                    yield batch
                    batch = Batch(batch.place, self._period)
            batch.place = Place(file_number, locate(file), is_end_of_file=True)
        yield batch

    def _find_files(self, start: Place) -> Iterator[tuple[int, str]]:
        """Yield the files that have not been read to their end, with their numbers."""
        number = 0
        for number, file in enumerate(find_files(self._paths), 1):
            if number == start.file_number and locate(file) != start.file:
                raise ReplayError(
                    f"{show(start.file)} was file number {number}, which is now "
                    f"{show(locate(file))}: files have come or gone before it."
                )
            if number < start.file_number or (number == start.file_number and start.is_end_of_file):
                self._bytes_of_files += _find_size(file) or 0
            else:
                yield number, file
        if number < start.file_number:
            raise ReplayError(f"{show(start.file)} is no longer to be found.")

    def _read_file(self, file: str, read_already: int) -> Iterator[Line | BrokenLine]:
        number = 0
        try:
            with _open(file) as stored:
                self._stored = stored
                for number, text in enumerate(_read_lines(_expand(stored)), 1):
                    if number <= read_already or text == b"":
                        continue
                    if text is None:
                        yield BrokenLine(file, number, Flaw.TOO_LONG)
                    else:
                        yield Line(file, number, text)
        except (OSError, EOFError, zlib.error) as error:
            number = max(number, read_already) + 1
            detail = (isinstance(error, OSError) and error.strerror) or str(error)
            yield BrokenLine(file, number, Flaw.UNREADABLE, detail)
        self._bytes_of_files = max(self.bytes_read, self._bytes_of_files + (_find_size(file) or 0))
        self._stored = None
        if number < read_already:
            raise ReplayError(f"{show(file)} has fewer lines than have been read of it.")


def find_files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the paths that are no directories, and in their place the files of those that are.

    Files are sorted by their names, directories among them, whose links to other directories are
    not followed. What cannot be looked at is yielded too: who reads it finds out why.
    """
    for path in paths:
        if path != STANDARD_INPUT and os.path.isdir(path):
            yield from _walk(path)
        else:
            yield path


def _walk(directory: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        yield directory
        return
    for name in names:
        path = os.path.join(directory, name)
        if os.path.isfile(path) or not os.path.exists(path):
            yield path
        elif os.path.isdir(path) and not os.path.islink(path):
            yield from _walk(path)


def locate(file: str) -> str:
    """Return a path that stays the same wherever it is looked at from."""
    return file if file == STANDARD_INPUT else os.path.abspath(file)


def show(file: str) -> str:
    """Return the path of a file for people; escaped if it could trick a terminal."""
    if file == STANDARD_INPUT:
        return "standard input"
    return file if file.isprintable() else ascii(file)


class _StoredBytes(io.RawIOBase):
    """The bytes of a file as they are stored, counted as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        # Both of them, however slowly a pipe is filled.
        self._head = file.read(len(_GZIP))
        self._file = cast(io.BufferedReader, file)
        self.is_compressed = self._head == _GZIP
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            count = len(self._head)
            buffer[:count] = self._head
            self._head = b""
        else:
            count = self._file.readinto1(buffer)
        self.bytes_read += count
        return count


@contextmanager
def _open(file: str) -> Iterator[_StoredBytes]:
    if file == STANDARD_INPUT:
        yield _StoredBytes(sys.stdin.buffer)
    else:
        with open(file, "rb") as opened:
            yield _StoredBytes(opened)


def _expand(stored: _StoredBytes) -> io.BufferedIOBase:
    buffered = io.BufferedReader(stored, _BUFFER_BYTES)
    # With no buffer around it: a damaged file would take the lines with it that wait there.
    return gzip.GzipFile(fileobj=buffered, mode="rb") if stored.is_compressed else buffered


def _read_lines(stream: io.BufferedIOBase) -> Iterator[bytes | None]:
    """Yield each line, without the white space around it; None for one that is too long."""
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while not line.endswith(b"\n") and (line := stream.readline(_BUFFER_BYTES)):
                pass
            yield None
        else:
            yield line.strip(b" \t\r\n")


def _find_size(file: str) -> int | None:
    """Return a file's size in bytes; None for what is no file, or not there."""
    if file == STANDARD_INPUT:
        return None
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass
class Progress:
    """What has been done so far, in all runs that belong together."""

    place: Place = field(default_factory=Place)
    #: Lines by the code of their reason or flaw, LEFT_OUT, or Status.EMITTED.
    counts: Counter[str] = field(default_factory=Counter)
    #: How much of the report belongs to that, in bytes.
    report_bytes: int = 0

    def add(self, batch: Batch) -> None:
        """Count the lines of a batch that has been recorded."""
        self.place = batch.place
        self.counts.update(str(outcome.reason or Status.EMITTED) for outcome in batch.outcomes)
        self.counts.update(str(line.flaw) for line in batch.broken)
        if batch.left_out:
            self.counts[LEFT_OUT] += batch.left_out


class Checkpoint:
    """The file that says how far a run has got; its content is always that of one moment.

    `run` is what has to be the same for another run to go on there: words for it, and its value,
    which is one that JSON gives back as it was. The file is the operator's, and trusted.
    """

    def __init__(self, path: Path, run: Mapping[str, object]) -> None:
        self._path = path
        self._run = run

    def load(self) -> Progress | None:
        """Return what was saved; None if there is no such file yet.

        Raises ReplayError for a file that is no checkpoint, belongs to a run of another kind, or
        cannot be read.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failure(self._path, error) from None
        try:
            saved = json.loads(content)
            progress = Progress(
                Place(**saved["place"]), Counter(saved["counts"]), int(saved["report_bytes"])
            )
            run = dict(saved["run"])
        except (ValueError, TypeError, LookupError, RecursionError):
            raise ReplayError(f"{show(str(self._path))} is no checkpoint.") from None
        for words, value in self._run.items():
            if run.get(words) != value:
                path = show(str(self._path))
                raise ReplayError(f"{path} is the checkpoint of a run with other {words}.")
        return progress

    def save(self, progress: Progress) -> None:
        """Replace what was saved, at once and for good: no crash leaves half of it behind.

        Raises ReplayError if that fails.
        """
        content = {
            "run": self._run,
            "place": progress.place._asdict(),
            "counts": progress.counts,
            "report_bytes": progress.report_bytes,
        }
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            with temporary.open("w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            _flush_directory(self._path.parent)
        except OSError as error:
            raise _failure(self._path, error) from None


class Report:
    """A file with a JSON line for each line of an archive that was not emitted, and why not.

    Of an event it holds the `messageId`, cut at 200 characters, and nothing else. Whatever a file
    of that name has after its first `size` bytes is gone; from then on `size` is how many it has.
    Raises ReplayError, here and in `add`, if it cannot be written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        try:
            self._file = path.open("ab")
            self.size = self._file.truncate(min(size, self._file.tell()))
        except OSError as error:
            raise _failure(path, error) from None

    def add(self, batch: Batch) -> None:
        """Add the lines of a batch that has been recorded, and return when the disk has them."""
        rows = [
            {"file": line.file, "line": line.number, "reason": line.flaw} for line in batch.broken
        ]
        rows += [
            {
                "file": line.file,
                "line": line.number,
                "messageId": outcome.message_id and outcome.message_id[:_MAX_ID_CHARACTERS],
                "reason": outcome.reason,
            }
            for line, outcome in zip(batch.lines, batch.outcomes, strict=True)
            if outcome.reason
        ]
        try:
            self._file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
            self._file.flush()
            # A checkpoint must not count on what is not there.
            os.fsync(self._file.fileno())
            self.size = self._file.tell()
        except OSError as error:
            raise _failure(self._path, error) from None

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # of what could not be written, which has been said
            self._file.close()


def _failure(path: Path, error: OSError) -> ReplayError:
    return ReplayError(f"{show(str(path))}: {error.strerror}")


def _flush_directory(directory: Path) -> None:
    with suppress(PermissionError):  # Windows opens no directories.
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Options:
    """How a run records what it reads."""

    #: How many lines share a user query; at least 1.
    batch_size: int = 1000
    #: Whether the site's deduplication applies, if it is on.
    deduplicate: bool = True
    #: Whether nothing is to be emitted, kept or told to receivers.
    dry_run: bool = False
    #: Whether what is rejected or fails is offered for keeping.
    quarantine: bool = False
    #: For how many seconds a database that does not answer is tried again, and so are, for a little
    #: more than LEASE_SECONDS at the most, events that another process has claimed.
    patience: float = 300.0


#: Waits for some seconds; it is told why, in words.
Wait = Callable[[float, str], None]


def replay(
    archive: Archive,
    progress: Progress,
    options: Options,
    *,
    checkpoint: Checkpoint | None = None,
    report_file: Report | None = None,
    hold: Callable[[], AbstractContextManager[object]] = nullcontext,
    wait: Wait = lambda seconds, why: time.sleep(seconds),
) -> Iterator[Batch]:
    """Record what `archive` has after `progress`, and yield each batch after it has been recorded.

    `progress`, the checkpoint and the report have it by then. A context of `hold` is entered where
    an interruption would do harm, and left before more is read; within it, `wait` may raise.

    Raises ServiceUnavailable if the database stays away, ImproperlyConfigured for a wrong setting,
    ReplayError, and what `wait` raises; the batch in hand is then still to be recorded, or has been
    and the checkpoint does not say so.
    """
    for batch in archive.read_batches(options.batch_size, progress.place):
        with hold():
            batch.outcomes = _record(batch, options, wait)
            progress.add(batch)
            if report_file:
                report_file.add(batch)
                progress.report_bytes = report_file.size
            if checkpoint:
                checkpoint.save(progress)
            yield batch


class _RawEvents(Payload):
    """A batch in the place of a delivery."""

    __slots__ = ("_batch",)

    def __init__(self, batch: Batch) -> None:
        super().__init__(b"")
        self._batch = batch

    def __iter__(self) -> Iterator[Any]:
        return self._batch.parse()

    def slices(self) -> Iterator[bytes]:
        return (line.text for line in self._batch.lines)


def _record(batch: Batch, options: Options, wait: Wait) -> list[Outcome]:
    outcomes = _try_to_record(batch, options, wait)
    # A run that was killed has left claims behind, which this one has to outlast.
    for seconds in _waits(min(options.patience, LEASE_SECONDS + 5)):
        claimed = [
            index for index, outcome in enumerate(outcomes) if outcome.reason is Reason.IN_PROGRESS
        ]
        if not claimed:
            break
        wait(seconds, f"{len(claimed):,} events are claimed by another process, or by a dead one")
        second_attempt = Batch(batch.place, found=[batch.lines[index] for index in claimed])
        for index, outcome in zip(
            claimed, _try_to_record(second_attempt, options, wait), strict=True
        ):
            outcomes[index] = outcome
    if outcomes and not options.dry_run:
        if options.quarantine:
            keep(zip(outcomes, (line.text for line in batch.lines), strict=True))
        report(outcomes)
    return outcomes


def _try_to_record(batch: Batch, options: Options, wait: Wait) -> list[Outcome]:
    def attempt() -> list[Outcome]:
        return record(
            _RawEvents(batch), deduplicate=options.deduplicate, emit=not options.dry_run
        ).outcomes

    for seconds in _waits(options.patience):
        try:
            return attempt()
        except ServiceUnavailable:
            wait(seconds, "The database does not answer")
            # Otherwise a connection that has broken would be used again.
            close_old_connections()
    return attempt()


def _waits(total: float) -> Iterator[float]:
    """Yield how many seconds to wait between attempts, so that they add up to `total`."""
    seconds = 1.0
    while total > 0:
        yield min(seconds, total)
        total -= seconds
        seconds = min(2 * seconds, MAX_WAIT_SECONDS)


_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 128 * 1024
_MAX_ID_CHARACTERS = 200

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
