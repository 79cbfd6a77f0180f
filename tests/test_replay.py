"""`manage.py segmentio_replay`; tests/services kills it and the servers that it needs."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.dispatch import Signal
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from segmentio_bridge.deduplication import identify
from segmentio_bridge.outcomes import Outcome, Reason, UnrecordedEvent
from segmentio_bridge.replay import MAX_BATCH_BYTES, MAX_LINE_BYTES, Archive, Options, Progress
from segmentio_bridge.replay import replay as replay_archive
from segmentio_bridge.signals import events_processed, events_unrecorded
from tests import hostile
from tests.conftest import registered
from tests.demo.server import SECRET
from tests.factories import make_event, make_event_of_website, make_properties, without

TrackingLog = list[dict[str, Any]]
Arguments = list[str | Path]

RATE = re.compile(r"([\d,]+) lines in [\d,.]+ s: [\d,]+ per second")
DEDUPLICATION_IS_OFF = (
    "Deduplication is off (TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS is 0): what has been recorded "
    "before is recorded again.\n"
)


class Replayed(NamedTuple):
    """How a run ended, what it counted, and what it said beside that."""

    exit_code: int
    #: Lines by outcome, and by reason where there is one.
    counts: dict[str, int]
    #: Of this run alone.
    lines: int
    said: str
    problem: str


def replay(*arguments: str | Path, stderr: io.StringIO | None = None) -> Replayed:
    """Run the command."""
    stdout, stderr = io.StringIO(), stderr or io.StringIO()
    exit_code, problem = 0, ""
    try:
        call_command(
            "segmentio_replay",
            *map(str, arguments),
            stdout=stdout,
            stderr=stderr,
            no_color=True,
        )
    except CommandError as error:
        exit_code, problem = error.returncode, str(error)
    counts, lines = read_table(stdout.getvalue())
    said = stderr.getvalue().replace(DEDUPLICATION_IS_OFF, "")
    return Replayed(exit_code, counts, lines, said, problem)


def read_table(output: str) -> tuple[dict[str, int], int]:
    """Return the counts of the final table, and the number of lines of this run."""
    if not output:
        return {}, 0
    head, *rows, total, rate = output.splitlines()
    assert head.split() == ["outcome", "reason", "lines"]
    counts = {}
    for row in rows:
        words, number = row.rsplit(maxsplit=1)
        counts[" ".join(words.split())] = int(number.replace(",", ""))
    assert total.split() == ["total", f"{sum(counts.values()):,}"]
    match = RATE.fullmatch(rate)
    assert match
    return counts, int(match[1].replace(",", ""))


def encode(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def named(*names: str) -> list[dict[str, Any]]:
    return [make_event(properties=make_properties(name=name)) for name in names]


def names(events: TrackingLog) -> list[str]:
    return [event["name"] for event in events]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A directory with the events one to nine, three in each file."""
    directory = tmp_path / "segment-logs"
    first, second = directory / "source" / "1772409600000", directory / "source" / "1772496000000"
    first.mkdir(parents=True)
    second.mkdir()
    (first / "a.gz").write_bytes(gzip.compress(encode(*named("one", "two", "three"))))
    (first / "b.gz").write_bytes(encode(*named("four", "five", "six")))
    (second / "a.gz").write_bytes(gzip.compress(encode(*named("seven", "eight", "nine"))))
    return directory


NAMES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@contextmanager
def receiving(sent: Signal, receiver: Callable[..., Any]) -> Iterator[None]:
    sent.connect(receiver)
    try:
        yield
    finally:
        sent.disconnect(receiver)


class Batches(list[list[Outcome]]):
    """The outcomes that receivers were told, batch by batch."""

    def __call__(self, outcomes: list[Outcome], **kwargs: Any) -> None:
        self.append(outcomes)

    @property
    def sizes(self) -> list[int]:
        return list(map(len, self))


@pytest.fixture
def batches() -> Iterator[Batches]:
    received = Batches()
    with receiving(events_processed, received):
        yield received


@contextmanager
def after_batches(count: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something while the batch with this number is recorded, after its events are emitted."""
    seen = Batches()

    def receive(outcomes: list[Outcome], **kwargs: Any) -> None:
        seen(outcomes)
        if len(seen) == count:
            act()

    with receiving(events_processed, receive):
        yield


# Files


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        lambda content: gzip.compress(content[:700]) + gzip.compress(content[700:]),
        lambda content: gzip.compress(b"") + gzip.compress(content) + b"\0" * 512,
    ],
    ids=["plain", "gzip", "two members", "padded"],
)
@pytest.mark.parametrize(
    "content",
    [
        encode(*named("one", "two", "three")),
        encode(*named("one", "two", "three")).rstrip(),
        encode(*named("one", "two", "three")).replace(b"\n", b" \r\n\r\n"),
        b"\n \n" + encode(*named("one", "two", "three")) + b"\n\n",
    ],
    ids=["lines", "unended", "lines of Windows", "empty lines"],
)
@pytest.mark.parametrize("name", ["events.gz", "events.json", "-"])
def test_what_is_compressed_shows_in_the_content(
    name: str,
    content: bytes,
    compress: Callable[[bytes], bytes],
    tracking_log: TrackingLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = compress(content)
    if name == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stored)))
        replayed = replay("-")
    else:
        (tmp_path / name).write_bytes(stored)
        replayed = replay(tmp_path / name)
    assert replayed == (0, {"emitted": 3}, 3, "", "")
    assert names(tracking_log) == ["one", "two", "three"]


@pytest.mark.usefixtures("learner")
def test_directories_are_walked_in_order(archive: Path, tracking_log: TrackingLog) -> None:
    (archive / "source" / "dummy-object.txt").touch()
    (archive / "source" / "link").symlink_to(archive)
    os.mkfifo(archive / "source" / "fifo")
    assert replay(archive).counts == {"emitted": 9}
    assert names(tracking_log) == NAMES


@pytest.mark.usefixtures("learner")
def test_paths_come_in_the_order_they_are_named(archive: Path, tracking_log: TrackingLog) -> None:
    first, second = sorted((archive / "source").iterdir())
    link = archive.with_name("a link")
    link.symlink_to(first)
    assert replay(second, link / "b.gz", link).counts == {"emitted": 12}
    assert names(tracking_log) == [*NAMES[6:], *NAMES[3:6], *NAMES[:6]]


@pytest.mark.usefixtures("learner")
def test_an_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert replay(tmp_path) == (0, {}, 0, "", "")


# Lines that hold no event


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    "broken",
    [
        *(pytest.param(body, id=name) for name, body in hostile.MALFORMED.items()),
        *(pytest.param(body, id=name) for name, (body, _) in hostile.STRANGE.items()),
        pytest.param(b"{},{}", id="two events"),
        pytest.param(b'{"type": "track"\n"userId": "1"}', id="an event in two lines"),
        pytest.param(b"{}]\n[{}", id="the end of an array"),
        pytest.param(b"This is no event.\nNor is this.", id="text"),
        pytest.param(b" " * MAX_LINE_BYTES + b"{} and more", id="too long"),
        pytest.param(encode({"text": "x" * MAX_LINE_BYTES}), id="an event that is too long"),
    ],
)
def test_a_broken_line_harms_none_of_its_neighbours(
    broken: bytes, tracking_log: TrackingLog, tmp_path: Path
) -> None:
    file = tmp_path / "events"
    file.write_bytes(encode(*named("before")) + broken + b"\n" + encode(*named("behind")))
    replayed = replay(file)
    assert names(tracking_log) == ["before", "behind"]
    assert replayed.counts["emitted"] == 2
    is_broken = any(row.startswith("broken") for row in replayed.counts)
    assert replayed.exit_code == is_broken
    assert bool(replayed.said) == is_broken


@pytest.mark.usefixtures("learner")
def test_broken_lines_are_named(archive: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    dummy = archive / "dummy-object.txt"
    dummy.write_bytes(b"This object\nis a dummy.\n3\n\xff\n\n" + b"x" * (MAX_LINE_BYTES + 1))
    replayed = replay(archive, "--report", report)
    assert replayed == (
        1,
        {"emitted": 9, "rejected not_an_object": 1, "broken not_json": 3, "broken too_long": 1},
        14,
        (
            f"{dummy}:1: not a JSON value\n"
            f"{dummy}:2: not a JSON value\n"
            f"{dummy}:4: not a JSON value\n"
            f"{dummy}:6: longer than 1,048,576 bytes\n"
        ),
        "Broken lines: 4. Failed events: 0.",
    )
    assert sorted(read_report(report), key=lambda row: int(row["line"])) == [
        {"file": str(dummy), "line": 1, "reason": "not_json"},
        {"file": str(dummy), "line": 2, "reason": "not_json"},
        {"file": str(dummy), "line": 3, "messageId": None, "reason": "not_an_object"},
        {"file": str(dummy), "line": 4, "reason": "not_json"},
        {"file": str(dummy), "line": 6, "reason": "too_long"},
    ]


@pytest.mark.usefixtures("learner")
def test_many_broken_lines_are_counted(archive: Path, tmp_path: Path) -> None:
    for name in ("a", "z"):
        (archive / name).write_bytes(b"no event\n" * 1_234)
    replayed = replay(archive, "--batch-size", "100")
    assert replayed.counts == {"emitted": 9, "broken not_json": 2_468}
    said = replayed.said.splitlines()
    assert len(said) == 22
    assert said[9] == f"{archive / 'a'}:10: not a JSON value"
    assert said[10] == f"{archive / 'a'}: 1,224 more broken lines"
    assert said[11] == f"{archive / 'z'}:1: not a JSON value"
    assert said[21] == f"{archive / 'z'}: 1,224 more broken lines"


def test_what_a_line_may_hold_is_what_memory_has_to_hold(tmp_path: Path) -> None:
    megabytes = 64
    file = tmp_path / "bomb.gz"
    with gzip.open(file, "wb", compresslevel=1) as opened:
        for _ in range(megabytes):
            opened.write(b"x" * 1024 * 1024)
    tracemalloc.start()
    try:
        replayed = replay(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert replayed.counts == {"broken too_long": 1}
    assert peak < 8 * MAX_LINE_BYTES


def test_a_batch_of_long_lines_is_shorter(batches: Batches, tmp_path: Path) -> None:
    line = encode({"text": "x" * (MAX_LINE_BYTES - 100)})
    in_a_batch = MAX_BATCH_BYTES // len(line) + 1
    (tmp_path / "events").write_bytes(line * (in_a_batch + 2))
    assert replay(tmp_path).counts == {"ignored unknown_source": in_a_batch + 2}
    assert batches.sizes == [in_a_batch, 2]


WHOLE = gzip.compress(encode(*named("one", "two", "three")))


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (WHOLE[:-9], "Compressed file ended before the end-of-stream marker was reached"),
        (WHOLE[:-8] + b"\0" * 8, "CRC check failed"),
        (WHOLE + b"something else", "Not a gzipped file"),
        (WHOLE + WHOLE[:10] + b"\xff" * 20, "Error -3 while decompressing data"),
    ],
    ids=["truncated", "changed", "with something behind", "with another member that is damaged"],
)
def test_a_damaged_file_is_read_up_to_the_damage(
    stored: bytes, words: str, tracking_log: TrackingLog, archive: Path
) -> None:
    damaged = archive / "a damaged one.gz"
    damaged.write_bytes(stored)
    replayed = replay(archive)
    emitted = names(tracking_log)
    assert emitted[-9:] == NAMES
    assert emitted[:-9] == NAMES[: len(emitted) - 9]
    assert replayed.counts == {"emitted": len(emitted), "broken unreadable": 1}
    line = len(emitted) - 8
    assert replayed.said.startswith(f"{damaged}:{line}: cannot be read from here on ({words}")
    assert replayed.exit_code == 1


@pytest.mark.usefixtures("learner")
def test_files_that_cannot_be_read(archive: Path) -> None:
    (archive / "dangling").symlink_to("nowhere")
    (archive / "escape\x1b[2J").symlink_to("nowhere")
    replayed = replay(archive)
    assert replayed.counts == {"emitted": 9, "broken unreadable": 2}
    assert replayed.said == (
        f"{archive}/dangling:1: cannot be read from here on (No such file or directory)\n"
        f"'{archive}/escape\\x1b[2J':1: cannot be read from here on (No such file or directory)\n"
    )


@pytest.mark.usefixtures("learner")
def test_a_directory_that_cannot_be_listed(archive: Path) -> None:
    replay("--dry-run", archive)  # which imports what another account might not be able to
    account = os.geteuid()
    with tempfile.TemporaryDirectory() as directory:
        closed = Path(directory, "closed")
        closed.mkdir(mode=0)
        Path(directory).chmod(0o755)
        os.seteuid(account or 65534)
        try:
            replayed = replay(directory)
        finally:
            os.seteuid(account)
    assert replayed.counts == {"broken unreadable": 1}
    assert replayed.said.startswith(f"{closed}:1: cannot be read from here on (")


# What becomes of events


OF_EACH_KIND = [
    make_event(messageId="good"),
    make_event(messageId="nobody's", userId="404"),
    make_event(messageId="too long" + "!" * 1_000, userId=None),
    without(make_event(messageId="nameless", properties={}), "userId"),
    {**make_event_of_website(), "messageId": "of the website"},
    without(make_event(), "messageId"),
]


def read_report(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["for real", "dry run"])
def test_outcomes_and_the_report(
    dry_run: list[str],
    batches: Batches,
    tracking_log: TrackingLog,
    app_log: list[logging.LogRecord],
    tmp_path: Path,
) -> None:
    file, report = tmp_path / "events", tmp_path / "report.jsonl"
    file.write_bytes(encode(*OF_EACH_KIND))
    report.write_text("of another run\n")
    replayed = replay(file, "--report", report, *dry_run)
    assert replayed.exit_code == 0
    assert replayed.counts == {
        "emitted": 2,
        "ignored unknown_source": 1,
        "rejected missing_name": 1,
        "rejected missing_user_id": 1,
        "rejected user_not_found": 1,
    }
    assert read_report(report) == [
        {"file": str(file), "line": 2, "messageId": "nobody's", "reason": "user_not_found"},
        {
            "file": str(file),
            "line": 3,
            "messageId": "too long" + "!" * 192,
            "reason": "missing_user_id",
        },
        {"file": str(file), "line": 4, "messageId": "nameless", "reason": "missing_name"},
        {"file": str(file), "line": 5, "messageId": "of the website", "reason": "unknown_source"},
    ]
    if dry_run:
        assert replayed.said == "Dry run: nothing is emitted. This is what would happen.\n"
        assert (tracking_log, batches, app_log) == ([], [], [])
    else:
        assert len(tracking_log) == 2
        assert batches.sizes == [6]
        assert [record.levelname for record in app_log] == ["INFO"] * 3


@pytest.mark.usefixtures("learner")
def test_a_dry_run_tells_of_a_tracker_that_is_not_there(archive: Path) -> None:
    with registered(None):
        replayed = replay(archive, "--dry-run")
    assert replayed.counts == {"failed tracker_disabled": 9}
    assert replayed.problem == "Broken lines: 0. Failed events: 9."


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["for real", "dry run"])
@pytest.mark.parametrize(("size", "queries"), [("1", 9), ("4", 3), ("9", 1), ("1000", 1)])
def test_a_batch_makes_one_query(
    size: str,
    queries: int,
    dry_run: list[str],
    archive: Path,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(queries):
        assert replay(archive, "--batch-size", size, *dry_run).counts == {"emitted": 9}


@pytest.mark.usefixtures("learner")
def test_in_queue_mode_it_records_here_and_now(
    archive: Path, settings: Settings, tracking_log: TrackingLog
) -> None:
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    assert replay(archive).counts == {"emitted": 9}
    assert len(tracking_log) == 9


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "2026-03-02T09:15:29.004Z"], {"exact", "later"}),
        (["--since", "2026-03-02T10:15:29.004+01:00"], {"exact", "later"}),
        (["--since", "2026-03-02T09:15:29.005"], {"later"}),
        (["--since", "2026-03-03"], {"later"}),
        (["--since", "2026-03-04"], set()),
        (["--until", "2026-03-02T09:15:29.004Z"], {"earlier"}),
        (["--until", "2026-03-02T09:15:29.005Z"], {"earlier", "exact"}),
        (["--until", "2026-03-02"], set()),
        (["--since", "2026-03-02", "--until", "2026-03-03"], {"earlier", "exact"}),
    ],
)
def test_the_period_is_that_of_the_reception(
    arguments: list[str], expected: set[str], tracking_log: TrackingLog, tmp_path: Path
) -> None:
    moments = {
        "earlier": "2026-03-02T09:15:29.003Z",
        "exact": "2026-03-02T09:15:29.004Z",
        "later": "2026-03-03T00:00:00Z",
    }
    ids = set(moments)
    events = [
        make_event(receivedAt=moment, properties=make_properties(name=name))
        for name, moment in moments.items()
    ]
    undated = [
        without(make_event(), "receivedAt"),
        make_event(receivedAt="when?"),
        make_event(receivedAt=1772442927),
        [],
    ]
    file = tmp_path / "events"
    file.write_bytes(encode(*events, *undated))
    replayed = replay(file, *arguments)
    assert set(names(tracking_log)) == expected
    left_out = {"left out outside_period": len(ids - expected)} if ids - expected else {}
    emitted = {"emitted": len(expected)} if expected else {}
    assert replayed.counts == {
        **emitted,
        "rejected invalid_received_at": 2,
        "rejected missing_received_at": 1,
        "rejected not_an_object": 1,
        **left_out,
    }


# Duplicates


@pytest.fixture
def cache(settings: Settings) -> Iterator[Any]:
    """The cache of the claims, with deduplication on."""
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": __name__,
        },
    }
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
    caches["default"].clear()
    yield caches["default"]
    caches["default"].clear()


@pytest.mark.usefixtures("learner", "cache")
def test_what_has_been_replayed_is_a_duplicate(archive: Path, tracking_log: TrackingLog) -> None:
    assert replay(archive) == (0, {"emitted": 9}, 9, "", "")
    assert replay(archive).counts == {"duplicate duplicate": 9}
    assert replay(archive, "--no-deduplication").counts == {"emitted": 9}
    assert names(tracking_log) == NAMES * 2


@pytest.mark.usefixtures("learner", "cache")
@pytest.mark.parametrize("option", ["--dry-run", "--no-deduplication"])
def test_the_cache_is_left_alone(option: str, archive: Path) -> None:
    for _ in range(2):
        assert replay(archive, archive, option).counts == {"emitted": 18}
    assert replay(archive).counts == {"emitted": 9}


@pytest.mark.usefixtures("learner", "cache")
def test_an_event_without_an_id_has_the_identity_of_its_bytes(
    client: Client, tmp_path: Path
) -> None:
    lines = [json.dumps(without(event, "messageId"), indent=None) for event in named("one", "two")]
    body = f"[ {lines[0]} , {lines[1]} ]"
    url = f"/segmentio/event?key={quote(SECRET)}"
    assert client.post(url, body, content_type="application/json").status_code == 200
    file = tmp_path / "events"
    file.write_text(f"{lines[0]}\n  {lines[1]} \r\n{lines[0].replace(',', ' ,', 1)}\n")
    assert replay(file).counts == {"emitted": 1, "duplicate duplicate": 2}


def test_whether_it_deduplicates_is_said(learner: User, archive: Path, settings: Settings) -> None:
    def first_words(*arguments: str) -> str:
        stderr = io.StringIO()
        replay(archive, *arguments, stderr=stderr)
        return stderr.getvalue().partition(" (")[0]

    assert first_words() == "Deduplication is off"
    assert first_words("--no-deduplication") == ""
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
    assert first_words() == ""


@pytest.mark.usefixtures("learner")
def test_claims_of_others_are_waited_for(
    archive: Path, cache: Any, tracking_log: TrackingLog, tmp_path: Path
) -> None:
    file = tmp_path / "events"
    file.write_bytes(encode(*(make_event(messageId=str(number)) for number in range(5))))
    for number in (1, 3):
        cache.add(identify(str(number), b""), 1, 0.5)
    replayed = replay(file)
    assert replayed == (
        0,
        {"emitted": 5},
        5,
        "2 events are claimed by another process, or by a dead one: trying again in 1 s.\n",
        "",
    )
    assert len(tracking_log) == 5


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("patience", ["0", "0.2"])
def test_claims_of_others_are_not_waited_for_forever(
    patience: str, cache: Any, batches: Batches, tmp_path: Path
) -> None:
    file, report = tmp_path / "events", tmp_path / "report"
    file.write_bytes(encode(make_event(messageId="claimed"), make_event()))
    cache.add(identify("claimed", b""), 1, 60)
    replayed = replay(file, "--patience", patience, "--report", report)
    assert replayed.counts == {"emitted": 1, "failed in_progress": 1}
    assert (replayed.exit_code, replayed.problem) == (1, "Broken lines: 0. Failed events: 1.")
    assert [(row["messageId"], row["reason"]) for row in read_report(report)] == [
        ("claimed", "in_progress")
    ]
    assert batches.sizes == [2]


# Events that are not recorded


class Keeper(list[UnrecordedEvent]):
    """A receiver that keeps what it is offered."""

    def __call__(self, events: list[UnrecordedEvent], **kwargs: Any) -> bool:
        self.extend(events)
        return True


@pytest.mark.usefixtures("learner")
def test_only_on_demand_are_events_offered_for_keeping(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_bytes(encode(*OF_EACH_KIND) + b"no event\n")
    keeper = Keeper()
    with receiving(events_unrecorded, keeper):
        replay(file)
        assert keeper == []
        replay(file, "--quarantine", "--dry-run")
        assert keeper == []
        assert replay(file, "--quarantine").counts["broken not_json"] == 1
    assert [(event.outcome.reason, event.raw) for event in keeper] == [
        (Reason.USER_NOT_FOUND, encode(OF_EACH_KIND[1]).strip()),
        (Reason.MISSING_USER_ID, encode(OF_EACH_KIND[2]).strip()),
        (Reason.MISSING_NAME, encode(OF_EACH_KIND[3]).strip()),
    ]


class Outage:
    """The database does not answer some of the user queries; the first is number 1."""

    def __init__(self, failing: Sequence[int], act: Callable[[], object] = lambda: None) -> None:
        self._failing = failing
        self._act = act
        self.queries = 0

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        # A connection that is made anew has queries of its own.
        self.queries += "auth_user" in sql
        if "auth_user" in sql and self.queries in self._failing:
            self._act()
            raise OperationalError("the server closed the connection unexpectedly")
        return execute(sql, *arguments)


@pytest.mark.django_db(transaction=True)  # a connection that has failed is closed
@pytest.mark.usefixtures("learner")
def test_a_database_that_comes_back(archive: Path, tracking_log: TrackingLog) -> None:
    with connection.execute_wrapper(Outage([2, 3])):
        replayed = replay(archive, "--batch-size", "4")
    assert replayed == (
        0,
        {"emitted": 9},
        9,
        (
            "The database does not answer: trying again in 1 s.\n"
            "The database does not answer: trying again in 2 s.\n"
        ),
        "",
    )
    assert names(tracking_log) == NAMES


@pytest.mark.django_db(transaction=True)  # a connection that has failed is closed
@pytest.mark.usefixtures("learner")
def test_a_database_that_stays_away(
    archive: Path, tracking_log: TrackingLog, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    reached = archive / "source" / "1772409600000" / "b.gz"
    run: Arguments = [archive, "--batch-size", "4", "--patience", "0.2", "--resume", checkpoint]
    outage = Outage(range(2, 99))
    with connection.execute_wrapper(outage):
        replayed = replay(*run)
    assert outage.queries == 3
    assert replayed == (
        1,
        {"emitted": 4},
        4,
        "The database does not answer: trying again in 0.2 s.\n",
        (
            f"The database does not answer. It got to line 1 of {reached}; the same command goes "
            f"on there (--resume {checkpoint})."
        ),
    )
    replayed = replay(*run)
    assert replayed == (
        0,
        {"emitted": 9},
        5,
        (f"Going on after line 1 of {reached}. The counts are those of all runs together.\n"),
        "",
    )
    assert names(tracking_log) == NAMES


@pytest.mark.usefixtures("learner")
def test_a_wrong_setting_stops_it(archive: Path, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = "track"
    replayed = replay(archive)
    assert replayed == (
        1,
        {},
        0,
        "",
        (
            "Stopped: TRACKING_SEGMENTIO_ALLOWED_TYPES must be a list of non-empty strings. "
            "Nothing has been recorded."
        ),
    )


def test_a_wrong_setting_of_deduplication_does(archive: Path, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = "an hour"
    assert replay(archive).problem == (
        "TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS must be a number of whole seconds, 0 for none."
    )


# Interruptions


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    signal.raise_signal(number)


def interrupt_soon(number: signal.Signals = signal.SIGINT) -> None:
    """Interrupt whatever the main thread is waiting for by then."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    threading.Timer(0.3, signal.pthread_kill, (main_thread, number)).start()


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("size", range(1, 9))
def test_interrupted_it_finishes_the_batch(
    size: int, number: signal.Signals, archive: Path, tracking_log: TrackingLog, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    run: Arguments = [archive, "--batch-size", str(size), "--resume", checkpoint]
    before = signal.getsignal(number)
    with after_batches(1, lambda: interrupt(number)):
        replayed = replay(*run)
    assert signal.getsignal(number) is before
    assert replayed.exit_code == 130
    assert replayed.counts == {"emitted": size}
    assert replayed.said == ""
    file, line = (size - 1) // 3, (size - 1) % 3 + 1
    path = ["1772409600000/a.gz", "1772409600000/b.gz", "1772496000000/a.gz"][file]
    reached = f"line {line} of {archive}/source/{path}"
    assert replayed.problem == (
        f"Interrupted. It got to {reached}; the same command goes on there (--resume {checkpoint})."
    )
    replayed = replay(*run)
    assert replayed.said.startswith(f"Going on after {reached}. ")
    assert replayed[:3] == (0, {"emitted": 9}, 9 - size)
    assert names(tracking_log) == NAMES
    replayed = replay(*run)
    assert replayed.said.startswith(f"Going on after the end of {archive}/source/1772496000000/a")
    assert replayed[:3] == (0, {"emitted": 9}, 0)


@pytest.mark.usefixtures("learner")
def test_interrupted_without_a_checkpoint_it_says_how_far_it_got(archive: Path) -> None:
    with after_batches(1, interrupt):
        replayed = replay(archive, "--batch-size", "2")
    assert replayed.problem == (
        f"Interrupted. It got to line 2 of {archive}/source/1772409600000/a.gz; with --resume FILE,"
        " the same command would go on there."
    )


@pytest.mark.usefixtures("learner")
def test_interrupted_twice_it_does_not_finish_the_batch(
    archive: Path, tracking_log: TrackingLog
) -> None:
    def interrupt_twice() -> None:
        interrupt()
        interrupt()

    with after_batches(2, interrupt_twice):
        replayed = replay(archive, "--batch-size", "4")
    assert replayed[:3] == (130, {"emitted": 4}, 4)
    assert names(tracking_log) == NAMES[:8]


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("act", [interrupt, interrupt_soon], ids=["before", "while"])
def test_interrupted_while_it_waits_it_gives_the_batch_up(
    act: Callable[[], object], archive: Path, tracking_log: TrackingLog
) -> None:
    with connection.execute_wrapper(Outage(range(2, 99), act)):
        replayed = replay(archive, "--batch-size", "4")
    assert replayed[:3] == (130, {"emitted": 4}, 4)
    assert names(tracking_log) == NAMES[:4]


@pytest.mark.usefixtures("learner")
def test_interrupted_while_it_reads_it_gives_the_batch_up(
    monkeypatch: pytest.MonkeyPatch, tracking_log: TrackingLog
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr("sys.stdin", stdin)
        pipe.write(encode(*named(*NAMES[:6])))
        interrupt_soon()
        replayed = replay("-", "--batch-size", "4")
    assert replayed[:3] == (130, {"emitted": 4}, 4)
    assert replayed.problem.startswith("Interrupted. It got to line 4 of standard input; ")


def test_a_signal_that_is_ignored_stays_so(learner: User, archive: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with after_batches(1, interrupt):
            assert replay(archive, "--batch-size", "2")[:2] == (0, {"emitted": 9})
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_runs_in_other_threads_too(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_bytes(encode(make_event_of_website()))
    results: list[Replayed] = []
    thread = threading.Thread(target=lambda: results.append(replay(file)))
    thread.start()
    thread.join()
    assert results[0].counts == {"ignored unknown_source": 1}


# Going on


@pytest.mark.usefixtures("learner")
def test_standard_input_can_be_gone_on_with(
    tracking_log: TrackingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Arguments = ["-", "--batch-size", "2", "--resume", tmp_path / "checkpoint"]
    stored = gzip.compress(encode(*named(*NAMES)))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stored)))
    with after_batches(2, interrupt):
        assert replay(*run)[:3] == (130, {"emitted": 4}, 4)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stored)))
    replayed = replay(*run)
    assert replayed.said.startswith("Going on after line 4 of standard input. ")
    assert replayed[:3] == (0, {"emitted": 9}, 5)
    assert names(tracking_log) == NAMES


@pytest.mark.usefixtures("learner")
def test_counts_and_the_report_go_on(tmp_path: Path) -> None:
    events, report, checkpoint = tmp_path / "events", tmp_path / "report", tmp_path / "checkpoint"
    lines = [encode(event) for event in OF_EACH_KIND]
    events.write_bytes(b"".join([b"no event\n", *lines, b"no event\n"]))
    run: Arguments = [events, "--batch-size", "2", "--resume", checkpoint, "--report", report]
    with after_batches(2, interrupt):
        assert replay(*run).exit_code == 130
    # What a run that was killed would have written, but not noted.
    with report.open("a") as file:
        file.write('{"file": "events", "line": 5, "mess')
    replayed = replay(*run)
    assert replayed.counts == {
        "emitted": 2,
        "ignored unknown_source": 1,
        "rejected missing_name": 1,
        "rejected missing_user_id": 1,
        "rejected user_not_found": 1,
        "broken not_json": 2,
    }
    assert (replayed.exit_code, replayed.lines) == (1, 4)
    assert [row["line"] for row in read_report(report)] == [1, 3, 4, 5, 6, 8]
    # A run that had failures has them still when nothing is left to be done.
    report.unlink()
    assert replay(*run).problem == "Broken lines: 2. Failed events: 0."
    assert report.read_text() == ""


@pytest.mark.usefixtures("learner")
def test_a_damaged_file_is_damaged_once(archive: Path, tmp_path: Path) -> None:
    (archive / "damaged.gz").write_bytes(WHOLE[:10] + b"\xff" * 20)
    run: Arguments = [archive, "--batch-size", "1", "--resume", tmp_path / "checkpoint"]
    with after_batches(1, interrupt):
        assert replay(*run).counts == {"broken unreadable": 1, "emitted": 1}
    assert replay(*run).counts == {"broken unreadable": 1, "emitted": 9}
    # The same, broken off right behind the damage.
    progress, options = Progress(), Options(batch_size=1)
    assert next(replay_archive(Archive([str(archive)]), progress, options)).broken
    others = list(replay_archive(Archive([str(archive)]), progress, options))
    assert [len(batch.lines) for batch in others] == [1] * 9 + [0]
    assert not any(batch.broken for batch in others)
    # Where a file was whole, and is damaged now.
    checkpoint = tmp_path / "another checkpoint"
    run = [archive / "source", "--batch-size", "2", "--resume", checkpoint]
    with after_batches(1, interrupt):
        assert replay(*run).counts == {"emitted": 2}
    damaged = archive / "source" / "1772409600000" / "a.gz"
    damaged.write_bytes(WHOLE[:10] + b"\xff" * 20)
    replayed = replay(*run)
    assert replayed.counts == {"emitted": 8, "broken unreadable": 1}
    assert f"{damaged}:3: cannot be read from here on" in replayed.said


@pytest.fixture
def checkpoint(learner: User, archive: Path, tmp_path: Path) -> Path:
    """The checkpoint of a run that got to line 2 of the archive's second file."""
    file = tmp_path / "checkpoint"
    with after_batches(1, interrupt):
        replay(archive, "--batch-size", "5", "--resume", file)
    return file


def test_a_run_goes_on_only_where_it_is_the_same(checkpoint: Path, archive: Path) -> None:
    content = checkpoint.read_text()
    others: list[tuple[Arguments, str]] = [
        ([archive / "source"], "PATHs"),
        ([archive, "-"], "PATHs"),
        ([archive, "--since", "2026-03-02"], "--since"),
        ([archive, "--until", "2027-03-02"], "--until"),
    ]
    for arguments, words in others:
        replayed = replay(*arguments, "--resume", checkpoint)
        assert replayed == (
            1,
            {},
            0,
            "",
            f"{checkpoint} is the checkpoint of a run with other {words}.",
        )
    assert checkpoint.read_text() == content


def test_where_the_paths_are_looked_at_from_does_not_matter(
    checkpoint: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive)
    with after_batches(1, interrupt):
        replayed = replay(".", "--resume", checkpoint, "--batch-size", "2")
    assert replayed[:3] == (130, {"emitted": 7}, 2)
    assert replay(f"../{archive.name}", "--resume", checkpoint)[:3] == (0, {"emitted": 9}, 2)


def test_files_that_have_come_before_are_noticed(checkpoint: Path, archive: Path) -> None:
    (archive / "another").touch()
    files = archive / "source" / "1772409600000"
    assert replay(archive, "--resume", checkpoint).problem == (
        f"Stopped: {files}/b.gz was file number 2, which is now {files}/a.gz: files have come or "
        f"gone before it. It got to line 2 of {files}/b.gz; the same command goes on there "
        f"(--resume {checkpoint})."
    )


def test_files_that_have_gone_are_noticed(checkpoint: Path, archive: Path) -> None:
    files = archive / "source" / "1772409600000"
    for file in archive.rglob("*.gz"):
        file.unlink()
    replayed = replay(archive, "--resume", checkpoint)
    assert replayed.problem.startswith(f"Stopped: {files}/b.gz is no longer to be found. ")


def test_a_file_that_has_become_shorter_is_noticed(checkpoint: Path, archive: Path) -> None:
    file = archive / "source" / "1772409600000" / "b.gz"
    file.write_bytes(encode(*named("four")))
    replayed = replay(archive, "--resume", checkpoint)
    assert replayed.problem.startswith(
        f"Stopped: {file} has fewer lines than have been read of it. "
    )


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "no JSON", json.dumps(make_event()), "[" * 100_000, '{"place": {"line": 2}}'],
)
def test_a_file_that_is_no_checkpoint_stays_as_it_is(
    content: str, archive: Path, tmp_path: Path
) -> None:
    file = tmp_path / "precious"
    file.write_text(content)
    assert replay(archive, "--resume", file).problem == f"{file} is no checkpoint."
    assert file.read_text() == content


@pytest.mark.parametrize("option", ["--resume", "--report"])
def test_files_that_cannot_be_written(option: str, archive: Path, tmp_path: Path) -> None:
    assert replay(archive, option, tmp_path).problem == f"{tmp_path}: Is a directory"
    nowhere = tmp_path / "nowhere" / "file"
    assert replay(archive, option, nowhere).problem == f"{nowhere}: No such file or directory"


@contextmanager
def full_disk() -> Iterator[Callable[[], None]]:
    """Give what makes it impossible to let a file grow, until the end of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("option", ["--resume", "--report"])
def test_files_that_can_no_longer_be_written(option: str, archive: Path, tmp_path: Path) -> None:
    (archive / "source" / "1772409600000" / "b.gz").write_bytes(b"no event\n")
    file = tmp_path / "file"
    with full_disk() as fill_disk, after_batches(2, fill_disk):
        replayed = replay(archive, option, file, "--batch-size", "2")
    assert replayed.exit_code == 1
    assert replayed.problem.startswith(f"Stopped: {file}: File too large ")


@pytest.mark.django_db(transaction=True)  # a connection that has failed is closed
def test_as_a_function(learner: User, archive: Path, tracking_log: TrackingLog) -> None:
    progress = Progress()
    batches = list(replay_archive(Archive([str(archive)]), progress, Options(batch_size=5)))
    assert [len(batch.lines) for batch in batches] == [5, 4]
    assert progress.counts == {"emitted": 9}
    outage = Outage([1])
    with connection.execute_wrapper(outage):
        (batch,) = replay_archive(Archive([str(archive)]), Progress(), Options(patience=0.01))
    assert (outage.queries, len(batch.outcomes)) == (2, 9)


# On a terminal


class Terminal(io.StringIO):
    """A terminal that does not say how wide it is."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("learner")
def test_a_bar_on_a_terminal(archive: Path) -> None:
    (archive / "dummy-object.txt").write_text("no event\n")
    terminal = Terminal()
    replayed = replay(archive, "--batch-size", "5", stderr=terminal)
    assert replayed.counts == {"emitted": 9, "broken not_json": 1}
    shown = terminal.getvalue()
    assert re.search(r"\r100%\|[█#]+\| ([\d.]+k)/\1 \[.*B/s, 10 events, [\d,]+/s\]\n$", shown)
    # The bar makes room for what is said.
    assert re.search(r"\r +\r[^\r]*dummy-object.txt:1: not a JSON value\n\r", shown)


@pytest.mark.usefixtures("learner")
def test_a_bar_of_unknown_length(
    monkeypatch: pytest.MonkeyPatch, tracking_log: TrackingLog
) -> None:
    stored = encode(*named("one", "two"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stored)))
    terminal = Terminal()
    assert replay("-", stderr=terminal).counts == {"emitted": 2}
    assert re.search(r"\r[\d.]+kB \[.*B/s, 2 events, [\d,]+/s\]\n$", terminal.getvalue())


@pytest.mark.usefixtures("learner")
def test_a_bar_begins_where_the_run_goes_on(checkpoint: Path, archive: Path) -> None:
    terminal = Terminal()
    replay(archive, "--resume", checkpoint, stderr=terminal)
    assert re.search(r"\r100%\|[█#]+\| ([\d.]+k)/\1 \[.*B/s, 4 events, ", terminal.getvalue())


@pytest.mark.usefixtures("learner")
def test_lines_on_a_terminal_without_tqdm(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    replayed = replay(archive, "--batch-size", "5", stderr=Terminal())
    assert replayed.counts == {"emitted": 9}
    assert re.fullmatch(r"\d+%, 0\.0 MiB, 5 lines in 0\.\d s: [\d,]+ per second\n", replayed.said)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(encode(*named("one")))))
    replayed = replay("-", stderr=Terminal())
    assert re.fullmatch(r"0\.0 MiB, 1 lines in 0\.\d s: [\d,]+ per second\n", replayed.said)


PROGRAM = [sys.executable, "-m", "django", "segmentio_replay", "--no-color"]
ENVIRONMENT = {
    **os.environ,
    "DJANGO_SETTINGS_MODULE": "tests.demo.settings",
    "PYTHONIOENCODING": "utf-8",
}
ROOT = Path(__file__).parent.parent


@pytest.fixture
def file_of_the_website(tmp_path: Path) -> Path:
    """Events that nobody wants, for which nobody is asked."""
    file = tmp_path / "events.gz"
    file.write_bytes(gzip.compress(encode(*(make_event_of_website() for _ in range(3_000)))))
    return file


@pytest.mark.parametrize("columns", [0, 90])
def test_a_real_terminal_has_a_bar(columns: int, file_of_the_website: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with subprocess.Popen(
        [*PROGRAM, str(file_of_the_website)],
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        pieces: list[bytes] = []
        # At its end, a terminal is an error.
        with suppress(OSError):
            pieces.extend(iter(lambda: os.read(ours, 4096), b""))
    os.close(ours)
    text = b"".join(pieces).decode()
    assert process.returncode == 0, text
    bars = [part for part in re.split(r"[\r\n]", text) if "%|" in part]
    assert {len(bar.rstrip()) for bar in bars} <= set(range(40, (columns or 80) + 1))
    assert bars[-1].startswith("100%|")
    assert ", 3,000 events, " in bars[-1]
    assert re.search(r"ignored  unknown_source +3,000", text)


def test_a_pipe_has_none(file_of_the_website: Path) -> None:
    run = subprocess.run(
        [*PROGRAM, str(file_of_the_website)],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0
    assert run.stderr == DEDUPLICATION_IS_OFF
    assert read_table(run.stdout) == ({"ignored unknown_source": 3_000}, 3_000)


# Usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Error: the following arguments are required: PATH"),
        (["/no/such/file"], "/no/such/file: No such file or directory"),
        (["/no/such/\x1b[2Jfile"], "'/no/such/\\x1b[2Jfile': No such file or directory"),
        (["-", "-"], "Standard input can be read only once."),
        (["-", "--batch-size", "0"], "--batch-size must be at least 1."),
        (["-", "--batch-size", "few"], "Error: argument --batch-size: invalid int value: 'few'"),
        (["-", "--patience", "-1"], "--patience must be at least 0."),
        (["-", "--patience", "nan"], "--patience must be at least 0."),
        (["-", "--since", "noon"], "--since: not a time, such as 2026-03-02T09:15Z"),
        (["-", "--until", ""], "--until: not a time, such as 2026-03-02T09:15Z"),
        (
            ["-", "--dry-run", "--resume", "file"],
            "--resume is for runs that record something, not for --dry-run.",
        ),
        (
            ["-", "--quarantine"],
            "--quarantine: nobody here keeps events; is segmentio_bridge.quarantine installed?",
        ),
        (
            ["-", "--report", "file", "--resume", "./file"],
            "--report and --resume must be two files.",
        ),
        ([".", "--report", "tests/file"], "--report and --resume must not lie within .."),
        (
            [__file__, "--resume", __file__],
            f"--report and --resume must not lie within {__file__}.",
        ),
    ],
)
def test_unusable_options(arguments: list[str], words: str) -> None:
    assert replay(*arguments) == (1, {}, 0, "", words)


def test_the_help_keeps_its_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        call_command("segmentio_replay", "--help")
    shown = capsys.readouterr().out
    assert "\n  TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS\n      is for how long" in shown
    assert "segment-logs --resume replay.json \\\n        --since 2026-03-02" in shown
    assert max(map(len, shown.splitlines())) <= 80
