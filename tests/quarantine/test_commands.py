"""`manage.py segmentio_release` and `manage.py segmentio_prune`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from segmentio_bridge.quarantine import release as release_module
from segmentio_bridge.quarantine.models import REASONS, QuarantinedEvent, Status
from segmentio_bridge.reporting import report
from tests.accounts.models import UUIDUser
from tests.factories import make_event
from tests.quarantine.site import broken, post, quarantine, rows, run, statuses, table

pytestmark = pytest.mark.django_db

Events = list[dict[str, Any]]

#: At six in the morning in Chicago, where the tests' site is.
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def mixed(learner: User) -> list[QuarantinedEvent]:
    """Events that came an hour apart; the first two can be recorded now, the others cannot."""
    events = quarantine(
        make_event(userId="2", messageId="m-0"),
        make_event(userId="2", messageId="m-1"),
        make_event(userId="404", messageId="m-2"),
        make_event(userId=None, messageId="m-3"),
    )
    for hours, row in enumerate(events):
        row.created_at = NOON + timedelta(hours=hours)
        row.save()
    User.objects.create(pk=2, username="grace")
    return events


def get_released() -> list[str]:
    return [row.message_id for row in rows() if row.status == Status.RELEASED]


def get_tried() -> list[str]:
    return [row.message_id for row in rows() if row.attempts]


class TestRelease:
    def test_everything(self, mixed: list[QuarantinedEvent], tracking_log: Events) -> None:
        status, output, error = run("segmentio_release")
        assert output.splitlines() == [
            "outcome   reason           events",
            "emitted   -                     2",
            "rejected  missing_user_id       1",
            "rejected  user_not_found        1",
            "all                             4",
        ]
        assert (status, error) == (1, "Still pending: 2.")
        assert get_released() == ["m-0", "m-1"]
        assert len(tracking_log) == 2

    @pytest.mark.parametrize(
        ("options", "tried"),
        [
            (["--reason", "missing_user_id"], ["m-3"]),
            (
                ["--reason", "missing_user_id", "--reason", "user_not_found"],
                ["m-0", "m-1", "m-2", "m-3"],
            ),
            (["--reason", "emission_failed"], []),
            (["--since", "2026-03-02T13:00:00+00:00"], ["m-1", "m-2", "m-3"]),
            (["--since", "2026-03-02T07:00"], ["m-1", "m-2", "m-3"]),
            (["--since", "2026-03-02"], ["m-0", "m-1", "m-2", "m-3"]),
            (["--until", "2026-03-02T13:00Z"], ["m-0"]),
            (["--until", "2026-03-02"], []),
            (["--since", "2026-03-02T07", "--until", "2026-03-02T08"], ["m-1"]),
            (["--message-id", "m-2"], ["m-2"]),
            (["--message-id", "m-2", "--message-id", "m-0"], ["m-0", "m-2"]),
            (["--limit", "3"], ["m-0", "m-1", "m-2"]),
            (["--limit", "1", "--reason", "missing_user_id"], ["m-3"]),
        ],
    )
    def test_only_what_is_asked_for(
        self, mixed: list[QuarantinedEvent], options: list[str], tried: list[str]
    ) -> None:
        run("segmentio_release", *options)
        assert get_tried() == tried

    def test_by_number(self, mixed: list[QuarantinedEvent]) -> None:
        status, output, _ = run("segmentio_release", "--id", str(mixed[1].pk))
        assert (status, get_tried(), table(output)) == (0, ["m-1"], {"-": 1, "all": 1})

    def test_nothing(self) -> None:
        status, output, error = run("segmentio_release")
        assert output.splitlines() == ["outcome  reason  events", "all                   0"]
        assert (status, error) == (0, "")

    def test_a_limit_leaves_the_others_alone(self, mixed: list[QuarantinedEvent]) -> None:
        status, output, _ = run("segmentio_release", "--limit", "2")
        assert status == 0
        assert "Not tried: 2." in output

    def test_dry_run(
        self,
        mixed: list[QuarantinedEvent],
        tracking_log: Events,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("segmentio_bridge.quarantine.preview.BATCH_SIZE", 2)
        settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
        assert post(b"no JSON") == 400
        before = [(row.status, row.reason, row.attempts) for row in rows()]
        status, output, error = run("segmentio_release", "--dry-run")
        assert table(output) == {
            "-": 2,
            "malformed_body": 1,
            "missing_user_id": 1,
            "user_not_found": 1,
            "all": 5,
        }
        assert (status, error) == (1, "Would stay pending: 3.")
        assert [(row.status, row.reason, row.attempts) for row in rows()] == before
        assert tracking_log == []

        status, output, _ = run("segmentio_release", "--dry-run", "--limit", "2")
        assert (status, table(output)) == (0, {"-": 2, "all": 2})
        assert run("segmentio_release", "--limit", "2")[0] == 0
        assert len(tracking_log) == 2

    def test_duplicates_are_released(
        self, mixed: list[QuarantinedEvent], settings: Settings
    ) -> None:
        settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
        assert post(mixed[0].raw) == 200
        status, output, _ = run("segmentio_release", "--limit", "2")
        assert (status, table(output)) == (0, {"-": 1, "duplicate": 1, "all": 2})

    def test_progress(self, mixed: list[QuarantinedEvent], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(release_module, "BATCH_SIZE", 3)
        _, output, _ = run("segmentio_release", "--verbosity", "2")
        assert output.splitlines()[:3] == [
            "Not yet tried: 4.",
            "Not yet tried: 1.",
            "Not yet tried: 0.",
        ]

    def test_the_database_fails(self, mixed: list[QuarantinedEvent]) -> None:
        with broken(lambda sql: sql.startswith("UPDATE")):
            status, output, error = run("segmentio_release")
        assert (status, error) == (1, "The database did not answer; the log tells more.")
        assert "Not tried: 4." in output

    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_the_database_does_not_even_answer(
        self, mixed: list[QuarantinedEvent], options: list[str]
    ) -> None:
        with broken(lambda sql: sql.startswith("SELECT")):
            status, _, error = run("segmentio_release", *options)
        assert (status, error) == (1, "The database does not answer (OperationalError).")

    def test_the_user_query_fails_in_a_dry_run(self, mixed: list[QuarantinedEvent]) -> None:
        with broken(lambda sql: "auth_user" in sql):
            status, _, error = run("segmentio_release", "--dry-run")
        assert (status, error) == (1, "The database does not answer (ServiceUnavailable).")

    def test_interrupted(
        self, mixed: list[QuarantinedEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(release_module, "BATCH_SIZE", 1)
        reports = iter([True])

        def interrupt(outcomes: Any) -> None:
            if not next(reports, False):
                raise KeyboardInterrupt
            report(outcomes)

        monkeypatch.setattr(release_module, "report", interrupt)
        status, output, error = run("segmentio_release")
        assert (status, error) == (130, "Interrupted; run it again to go on.")
        assert table(output) == {"-": 1, "all": 1}

    def test_somebody_else_is_faster(
        self, mixed: list[QuarantinedEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(release_module, "_lock", lambda keys, alias: rows()[:1])
        status, output, _ = run("segmentio_release")
        assert status == 0
        assert "No longer pending, or in the hands of another process: 3." in output

    def test_a_wrong_setting(self, mixed: list[QuarantinedEvent], settings: Settings) -> None:
        settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = "track"
        for options in ([], ["--dry-run"]):
            status, _, error = run("segmentio_release", *options)
            assert status == 1
            assert error.startswith("TRACKING_SEGMENTIO_ALLOWED_TYPES must be")

    @pytest.mark.parametrize(
        "options",
        [
            ["--reason", "duplicate"],
            ["--reason", "no such reason"],
            ["--since", "yesterday"],
            ["--since", "2026-02-30"],
            ["--until", "9999-12-31T23:59-05:00"],
            ["--id", "-1"],
            ["--id", "²"],
            ["--limit", "0"],
            ["--limit", "9999999999"],
        ],
    )
    def test_unusable_options(self, options: list[str]) -> None:
        status, _, error = run("segmentio_release", *options)
        assert status == 1
        assert options[0] in error


def make_rows(days: int, status: str = Status.PENDING, **fields: Any) -> None:
    moment = timezone.now() - timedelta(days=days, minutes=1)
    QuarantinedEvent.objects.create(payload="{}", status=status, created_at=moment, **fields)


class TestPrune:
    def test_what_is_older_than_the_retention(self, settings: Settings) -> None:
        for days in (0, 29, 30, 31):
            make_rows(days)
            make_rows(days, Status.RELEASED)
        assert run("segmentio_prune") == (
            0,
            "status    deleted\npending         2\nreleased        2\nall             4\n",
            "",
        )
        assert len(rows()) == 4
        settings.TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS = 7
        assert table(run("segmentio_prune")[1])["all"] == 2

    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_the_database_does_not_answer(self, options: list[str]) -> None:
        with broken(lambda sql: True):
            status, _, error = run("segmentio_prune", *options)
        assert (status, error) == (1, "The database does not answer (OperationalError).")

    @pytest.mark.parametrize(
        ("options", "left"),
        [
            (["--days", "1"], [0, 0, 0]),
            (["--days", "36"], [0, 0, 0, 10, 10, 10, 35, 35, 35]),
            (["--days", "999999999"], [0, 0, 0, 10, 10, 10, 35, 35, 35]),
            (["--status", "released"], [0, 0, 10, 10, 35, 35]),
            (["--status", "released", "--status", "pending"], [0, 10, 35]),
            (["--status", "released", "--days", "9"], [0, 0, 0, 10, 10, 35, 35]),
            (["--reason", "not_an_object"], [0, 10, 35]),
            (["--reason", "not_an_object", "--status", "pending"], [0, 0, 10, 10, 35, 35]),
            (["--all"], []),
        ],
    )
    def test_only_what_is_asked_for(self, options: list[str], left: list[int]) -> None:
        for days in (0, 10, 35):
            make_rows(days, Status.PENDING, reason="not_an_object")
            make_rows(days, Status.RELEASED, reason="not_an_object")
            make_rows(days, Status.DISCARDED, reason="missing_data")
        before = len(rows())
        foreseen = table(run("segmentio_prune", *options, "--dry-run")[1])
        assert len(rows()) == before
        assert table(run("segmentio_prune", *options)[1]) == foreseen
        assert [(timezone.now() - row.created_at).days for row in rows()] == left
        assert foreseen["all"] == before - len(left)

    def test_a_learner_is_retired(self, learner: User) -> None:
        quarantine(
            make_event(userId="7", timestamp=None),
            make_event(userId=7, timestamp=None),
            make_event(userId="07", timestamp=None),
            make_event(userId="77", timestamp=None),
            make_event(userId=None),
            "no event",
        )
        assert table(run("segmentio_prune", "--user-id", "7")[1])["all"] == 3
        assert [row.user_id for row in rows()] == ["77", "", ""]
        assert table(run("segmentio_prune", "--user-id", "8", "--user-id", "077")[1])["all"] == 1

    def test_a_learner_with_another_kind_of_key_is_retired(self, settings: Settings) -> None:
        settings.AUTH_USER_MODEL = UUIDUser._meta.label
        quarantine(
            make_event(userId="12345678-1234-5678-1234-567890abcdef"), make_event(userId="😀\0")
        )
        for user_id in ("12345678123456781234567890ABCDEF", "😀\0"):
            assert table(run("segmentio_prune", "--user-id", user_id)[1])["all"] == 1
        assert rows() == []

    def test_nobody_is_everybody(self) -> None:
        quarantine("no event")
        status, _, error = run("segmentio_prune", "--user-id", "")
        assert (status, error) == (1, "--user-id must not be empty.")
        assert statuses() == ["pending"]

    @pytest.mark.parametrize(
        "options",
        [
            ["--all", "--days", "7"],
            ["--all", "--user-id", "7"],
            ["--days", "0"],
            ["--status", "old"],
            ["--reason", "old"],
        ],
    )
    def test_unusable_options(self, options: list[str]) -> None:
        quarantine("no event")
        status, _, error = run("segmentio_prune", *options)
        assert status == 1
        assert options[0] in error
        assert statuses() == ["pending"]

    def test_a_wrong_setting(self, settings: Settings) -> None:
        settings.TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS = 0
        status, _, error = run("segmentio_prune")
        assert status == 1
        assert error.startswith("TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS must be")


@pytest.mark.parametrize("command", ["segmentio_release", "segmentio_prune"])
def test_the_help_can_be_worked_from(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command(command, "--help")
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"\n    manage.py {command}" in text
    for reason in REASONS:
        assert reason in text
