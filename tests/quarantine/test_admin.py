"""The admin, as people use it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape
from pytest_django import Settings

from segmentio_bridge.outcomes import Reason
from segmentio_bridge.quarantine import admin as admin_module
from segmentio_bridge.quarantine.advice import advise
from segmentio_bridge.quarantine.models import REASONS, QuarantinedEvent, Status
from tests.factories import make_event, make_properties
from tests.hostile import FIELDS, MALFORMED, VALUES, as_batch, render
from tests.quarantine.site import (
    ADMIN,
    act,
    broken,
    deliver,
    detail,
    messages,
    page,
    post,
    quarantine,
    rows,
    statuses,
)

pytestmark = pytest.mark.django_db

Events = list[dict[str, Any]]

needs_time_zones = pytest.mark.skipif(
    connection.vendor == "mysql", reason="MySQL has the names of time zones only if one loads them"
)


def listed(text: str) -> list[str]:
    """Return the message ids in the list."""
    return re.findall(r'class="field-message_id">(.*?)</td>', text)


def shown(text: str, name: str) -> str:
    """Return the text of a field of an event's page."""
    field = text.split(f"field-{name}")[1].split('<div class="readonly">')[1].split("</div>")[0]
    return re.sub(r"<[^>]*>", "", field)


def make_rows(count: int, **fields: Any) -> list[QuarantinedEvent]:
    """Fill the table."""
    fields = {"payload": "{}", "reason": "user_not_found", **fields}
    return QuarantinedEvent.objects.bulk_create(QuarantinedEvent(**fields) for _ in range(count))


class TestList:
    def test_newest_first_with_what_one_wants_to_know(self, viewer: Client) -> None:
        quarantine(
            make_event(messageId="m-1", userId="404"),
            make_event(messageId="m-2", userId=None),
        )
        text = page(viewer)
        assert listed(text) == ["m-2", "m-1"]
        row = text.split("<tbody>")[-1].split("</tr>")[1]
        cells = re.findall(r'class="field-(\w+)[^>]*>(.*?)</t', row)
        assert {name: re.sub(r"<[^>]*>", "", cell) for name, cell in cells} == {
            "reason": "user_not_found",
            "event_name": "edx.video.loaded",
            "user_id": "404",
            "age": "0\xa0minutes",
            "attempts": "0",
            "status": "pending",
            "message_id": "m-1",
        }

    def test_no_event_can_be_added(self, admin: Client) -> None:
        assert admin.get(f"{ADMIN}add/").status_code == 403
        assert f"{ADMIN}add/" not in page(admin)

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"q": "m-1"}, ["m-1"]),
            ({"q": " 404 "}, ["m-1"]),
            ({"q": "0404"}, ["m-1"]),
            ({"q": "m-"}, []),
            ({"q": "  "}, ["m-3", "m-2", "m-1"]),
            ({"q": "%"}, []),
            ({"q": "x" * 1_000}, ["m-3"]),
            ({"reason": "missing_user_id"}, ["m-2"]),
            ({"reason": "no such reason"}, []),
            ({"status__exact": "pending"}, ["m-3", "m-2", "m-1"]),
            ({"status__exact": "released"}, []),
            ({"created_at__gte": "2020-01-01 00:00:00+00:00"}, ["m-3", "m-2", "m-1"]),
            ({"created_at__lt": "2020-01-01 00:00:00+00:00"}, []),
            ({"created_at__year": "2020"}, []),
            ({"o": "1"}, ["m-2", "m-3", "m-1"]),
        ],
    )
    def test_search_and_filters(
        self, viewer: Client, query: dict[str, str], found: list[str]
    ) -> None:
        quarantine(
            make_event(messageId="m-1", userId="404"),
            make_event(messageId="m-2", userId=None),
            make_event(messageId="m-3", userId="x" * 1_000, timestamp=None),
        )
        QuarantinedEvent.objects.filter(message_id="m-3").update(reason="missing_zzz")
        assert sorted(listed(page(viewer, **query))) == sorted(found)

    def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(
        self, viewer: Client
    ) -> None:
        make_rows(1)
        page(viewer)
        with CaptureQueriesContext(connection) as few:
            page(viewer)
        for number in range(20):
            make_rows(250, reason=f"reason {number % 8}", user_id=str(number))
        with CaptureQueriesContext(connection) as many:
            assert len(re.findall("<tr>", page(viewer))) > 100
        assert len(many) == len(few) <= 12
        assert not [query for query in many if "payload" in query["sql"]]

    @pytest.mark.parametrize(
        ("zone", "has_zones", "is_shown"),
        [
            pytest.param("America/Chicago", True, True, marks=needs_time_zones),
            ("America/Chicago", False, False),
            ("UTC", False, True),
        ],
    )
    def test_days_where_the_database_can_tell_them(
        self,
        viewer: Client,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        zone: str,
        has_zones: bool,
        is_shown: bool,
    ) -> None:
        settings.TIME_ZONE = zone
        monkeypatch.setattr(connection.features, "has_zoneinfo_database", has_zones)
        make_rows(1)
        make_rows(1, created_at=timezone.now() - timedelta(days=90))
        assert ('<nav class="toplinks"' in page(viewer)) == is_shown


class TestChart:
    def test_a_picture_with_a_text_and_a_table(self, viewer: Client) -> None:
        quarantine(make_event(userId="404"), make_event(userId=None), make_event(userId=None))
        text = page(viewer)
        picture = re.search(r'<svg [^>]*role="img".*?</svg>', text, re.S)
        assert picture
        svg = ElementTree.fromstring(picture[0])  # noqa: S314 - it is ours
        names = {child.get("id"): child.text for child in svg}
        assert svg.get("role") == "img"
        labels = [names[label] or "" for label in (svg.get("aria-labelledby") or "").split()]
        assert labels[0] == "Quarantined events of the last 30 days, by reason"
        assert "By reason: missing_user_id 2, user_not_found 1." in labels[1]
        bars = [child for child in svg if child.tag.endswith("rect")]
        assert [bar[0].text for bar in bars] == [
            f"{datetime.now(UTC).date()}: 2 missing_user_id",
            f"{datetime.now(UTC).date()}: 1 user_not_found",
        ]
        table = text.split("<details>")[1].split("</details>")[0]
        assert re.findall(r'<th scope="col">(.*?)</th>', table) == [
            "Day",
            "missing_user_id",
            "user_not_found",
            "All",
        ]
        assert re.findall(r"<td>(.*?)</td>", table) == ["2", "1", "3"]

    def test_it_brings_no_scripts_and_no_styles(self, viewer: Client) -> None:
        make_rows(3)
        section = page(viewer).split("<section")[1].split("</section>")[0]
        for forbidden in ("<script", "<style", "style=", "href", "http:", "onload"):
            assert forbidden not in section.replace('xmlns="http://www.w3.org/2000/svg"', "")

    def test_no_events(self, viewer: Client) -> None:
        make_rows(1, created_at=timezone.now() - timedelta(days=31))
        section = page(viewer).split("<section")[1].split("</section>")[0]
        assert "<p>None.</p>" in section
        assert "<svg" not in section

    def test_the_numbers_of_the_picture_are_not_those_of_a_language(
        self, viewer: Client, settings: Settings
    ) -> None:
        settings.LANGUAGE_CODE = "de"
        settings.USE_THOUSAND_SEPARATOR = True
        make_rows(1_200)
        text = page(viewer)
        picture = text.split("<section")[1].split("<details>")[0]
        for name in ("x", "y", "x1", "y1", "x2", "y2", "width", "height", "viewBox"):
            for value in re.findall(rf' {name}="(.*?)"', picture):
                assert re.fullmatch(r"[\d ]+|100%", value)
        assert "<td>1.200</td>" in text

    def test_it_is_drawn_for_a_page_only(self, changer: Client) -> None:
        chosen = quarantine("no event")
        data = {"action": "discard", "index": 0, "_selected_action": [chosen[0].pk]}
        with CaptureQueriesContext(connection) as queries:
            assert changer.post(ADMIN, data).status_code == 302
        assert not [query for query in queries if "GROUP BY" in query["sql"]]


class TestEvent:
    def test_why_it_is_here_and_what_to_do(self, viewer: Client) -> None:
        (row,) = quarantine(make_event(userId="404", messageId="m-1"))
        text = detail(viewer, row)
        assert shown(text, "reason") == "user_not_found"
        assert shown(text, "meaning") == Reason.USER_NOT_FOUND.description
        assert shown(text, "detail") == "userId: &quot;404&quot;"
        assert shown(text, "advice") == escape(advise(Reason.USER_NOT_FOUND))
        assert shown(text, "message_id") == "m-1"
        assert shown(text, "forecast") == (
            "Nothing. user_not_found: No user has the primary key in userId."
        )
        assert escape(json.dumps(json.loads(row.payload), indent=2)) in text

    def test_what_would_be_emitted(self, viewer: Client, tracking_log: Events) -> None:
        (row,) = quarantine(make_event(userId="2"))
        User.objects.create(pk=2, username="grace")
        text = shown(detail(viewer, row), "forecast")
        assert tracking_log == []
        assert "Name: edx.video.loaded" in text
        assert "&quot;username&quot;: &quot;grace&quot;" in text
        assert "&quot;timestamp&quot;: &quot;2026-03-02 09:15:27.352000+00:00&quot;" in text
        assert "&quot;module_id&quot;: &quot;8f3ad1c6a1d94b0c&quot;" in text

    def test_what_would_be_emitted_of_what_is_dealt_with(self, viewer: Client) -> None:
        make_rows(1, status=Status.DISCARDED)
        (row,) = rows()
        assert shown(detail(viewer, row), "forecast") == "Nothing: the event has been discarded."

    def test_what_would_be_emitted_with_the_settings_of_now(
        self, viewer: Client, settings: Settings
    ) -> None:
        (row,) = quarantine(make_event(userId="404"))
        settings.TRACKING_SEGMENTIO_SOURCE_MAP = {}
        assert shown(detail(viewer, row), "forecast").startswith("Nothing. unknown_source: ")
        settings.TRACKING_SEGMENTIO_SOURCE_MAP = "mobile"
        forecast = shown(detail(viewer, row), "forecast")
        assert forecast.startswith("Nothing can be emitted: TRACKING_SEGMENTIO_SOURCE_MAP must be")

    def test_what_would_be_emitted_if_the_user_goes_at_this_moment(
        self, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (row,) = quarantine(make_event(userId="2"))
        User.objects.create(pk=2, username="grace")
        monkeypatch.setattr("segmentio_bridge.quarantine.preview.find_users", lambda keys: {})
        assert shown(detail(viewer, row), "forecast").startswith("Nothing. user_not_found")

    @pytest.mark.parametrize("answered", [0, 1])
    def test_what_would_be_emitted_if_the_users_cannot_be_asked(
        self, viewer: Client, answered: int
    ) -> None:
        (row,) = quarantine(make_event(userId="2"))
        User.objects.create(pk=2, username="grace")
        failures = chain([False] * answered, repeat(True))
        with broken(
            lambda sql: User._meta.db_table in sql and " IN (%s)" in sql and next(failures)
        ):
            text = detail(viewer, row)
        assert shown(text, "forecast") == "That cannot be told: the database does not answer."

    def test_a_malformed_body(self, viewer: Client) -> None:
        assert post(b'[{"a":1,\n\xff\0"b"') == 400
        (row,) = rows()
        text = detail(viewer, row)
        assert shown(text, "content") == '[{"a":1,\n\\udcff\\x00"b"'.replace('"', "&quot;")
        assert shown(text, "forecast").startswith("Nothing. malformed_body: The body")

    def test_a_malformed_body_can_only_be_discarded(self, changer: Client) -> None:
        assert post(b"no JSON") == 400
        assert re.findall(r'name="action" value="(\w+)"', detail(changer, rows()[0])) == ["discard"]

    def test_a_large_event_is_cut(self, viewer: Client) -> None:
        (row,) = quarantine(make_event(userId="404", event="x" * 100_000))
        text = detail(viewer, row)
        assert len(text) < 100_000
        assert "There is more: no more than the first 50,000 characters are shown." in text

    def test_a_reason_that_this_version_does_not_know(self, viewer: Client) -> None:
        (row,) = quarantine("no event")
        QuarantinedEvent.objects.update(reason="of_the_future")
        text = detail(viewer, row)
        assert shown(text, "meaning") == "This version does not know the reason."
        assert shown(text, "advice") == advise(None)

    def test_the_date_and_the_attempts(self, changer: Client) -> None:
        (row,) = quarantine("no event")
        QuarantinedEvent.objects.update(created_at=datetime(2026, 3, 2, 12, tzinfo=UTC))
        act(changer, "release", [row])
        text = detail(changer, row)
        assert shown(text, "since").startswith("2026-03-02 06:00:00 CST (")
        assert shown(text, "attempts") == "1"
        assert "None" not in shown(text, "last_attempt_at")


@pytest.mark.parametrize("reason", REASONS.values())
def test_there_is_advice_for_every_reason(reason: Reason) -> None:
    assert advise(reason).endswith(".")
    assert len(advise(reason)) > 40


def test_an_event_is_here_for_any_reason_but_one() -> None:
    assert set(Reason) - set(REASONS.values()) == {Reason.DUPLICATE}


class TestRelease:
    def test_tells_what_happened_by_reason(self, changer: Client, learner: User) -> None:
        chosen = quarantine(*(make_event(userId="2") for _ in range(3)), "no event", 17)
        User.objects.create(pk=2, username="grace")
        response = act(changer, "release", chosen)
        assert messages(response) == [
            "success: Released: 3 emitted.",
            "warning: Still pending: 2 not_an_object.",
        ]
        assert statuses() == ["released"] * 3 + ["pending"] * 2

    def test_only_what_is_chosen(self, changer: Client) -> None:
        _, second = quarantine("one", "two")
        act(changer, "release", [second])
        assert [row.attempts for row in rows()] == [0, 1]

    def test_nothing_is_pending(self, changer: Client) -> None:
        chosen = quarantine("one", "two")
        assert messages(act(changer, "discard", chosen)) == ["success: Discarded: 2 not_an_object."]
        for action in ("release", "discard"):
            assert messages(act(changer, action, chosen)) == [
                "warning: None of these events is pending."
            ]
        assert statuses() == ["discarded"] * 2

    def test_all_that_the_filter_leaves(self, changer: Client) -> None:
        quarantine(*range(150))
        chosen = quarantine(make_event(userId="404"))
        response = act(changer, "discard", chosen, select_across="1")
        assert messages(response) == ["success: Discarded: 150 not_an_object, 1 user_not_found."]

    def test_no_more_than_a_request_has_time_for(
        self, changer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admin_module, "MAX_RELEASED_AT_ONCE", 2)
        chosen = quarantine(*range(5))
        assert messages(act(changer, "release", chosen)) == [
            "warning: Still pending: 2 not_an_object.",
            (
                "warning: No more than 2 are released at once. Not tried: 3. "
                "manage.py segmentio_release has no such limit."
            ),
        ]

    def test_the_database_fails(self, changer: Client, learner: User) -> None:
        chosen = quarantine(make_event(userId="404"))
        with broken(lambda sql: sql.startswith("UPDATE")):
            response = act(changer, "release", chosen)
        assert messages(response) == ["error: The database did not answer. Not tried: 1."]

    def test_somebody_else_was_faster(
        self, changer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chosen = quarantine("one", "two")
        monkeypatch.setattr(
            "segmentio_bridge.quarantine.release._lock", lambda keys, alias: rows()[:1]
        )
        assert messages(act(changer, "release", chosen)) == [
            "warning: Still pending: 1 not_an_object.",
            "warning: Somebody else was releasing: 1.",
        ]

    def test_a_setting_is_wrong(self, changer: Client, settings: Settings) -> None:
        chosen = quarantine("one")
        settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = "track"
        (message,) = messages(act(changer, "release", chosen))
        assert message.startswith("error: Nothing can be released: TRACKING_SEGMENTIO_ALLOWED_TYP")

    def test_from_the_page_of_an_event(self, changer: Client) -> None:
        (row,) = quarantine("no event")
        form = re.search(
            r'<form method="post" action="(.*?)">(.*?)</form>', detail(changer, row), re.S
        )
        assert form
        assert form[1] == ADMIN
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', form[2]))
        buttons = re.findall(r'name="action" value="(\w+)"', form[2])
        assert buttons == ["release", "discard"]
        for button in buttons:
            changer.post(ADMIN, {**fields, "action": button})
        (row,) = rows()
        assert (row.status, row.attempts) == ("discarded", 1)
        assert 'name="action"' not in detail(changer, row)

    @pytest.mark.django_db(transaction=True)
    def test_no_rollback_undoes_what_has_been_emitted(
        self, monkeypatch: pytest.MonkeyPatch, tracking_log: Events
    ) -> None:
        client = Client(raise_request_exception=False)
        client.force_login(User.objects.create_superuser("root", id=50))
        chosen = quarantine(make_event(userId="2"))
        User.objects.create(pk=2, username="grace")
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

        def fail(*arguments: Any, **options: Any) -> None:
            raise RuntimeError("after the release")

        monkeypatch.setattr(admin_module.QuarantinedEventAdmin, "message_user", fail)
        data = {"action": "release", "index": 0, "_selected_action": [chosen[0].pk]}
        assert client.post(ADMIN, data).status_code == 500
        assert len(tracking_log) == 1
        assert statuses() == ["released"]


class TestPermissions:
    def test_without_any(self, outsider: Client) -> None:
        (row,) = quarantine("no event")
        assert outsider.get(ADMIN).status_code == 403
        assert outsider.get(f"{ADMIN}{row.pk}/change/").status_code == 403
        act(outsider, "release", [row])
        assert rows()[0].attempts == 0

    def test_nobody_who_is_not_logged_in_sees_anything(self) -> None:
        (row,) = quarantine("no event")
        for path in ("", f"{row.pk}/change/"):
            assert Client().get(f"{ADMIN}{path}").status_code == 302

    def test_view_is_to_look(self, viewer: Client) -> None:
        (row,) = quarantine("no event")
        assert 'value="release"' not in page(viewer) + detail(viewer, row)
        for action in ("release", "discard", "delete_selected"):
            act(viewer, action, [row], post="yes")
        (same,) = rows()
        assert (same.status, same.attempts) == ("pending", 0)
        assert viewer.post(f"{ADMIN}{row.pk}/delete/", {"post": "yes"}).status_code == 403

    def test_change_is_to_release_and_discard_but_not_to_edit(self, changer: Client) -> None:
        (row,) = quarantine("no event")
        text = page(changer)
        assert 'value="release"' in text
        assert 'value="discard"' in text
        assert 'value="delete_selected"' not in text
        assert 'name="_save"' not in detail(changer, row)
        edit = {"status": "released", "payload": "{}", "reason": "x", "_save": "Save"}
        assert changer.post(f"{ADMIN}{row.pk}/change/", edit).status_code == 403
        assert rows()[0].payload == '"no event"'

    def test_delete_is_as_ever(self, admin: Client) -> None:
        first, second, _ = quarantine(*range(3))
        assert admin.post(f"{ADMIN}{first.pk}/delete/", {"post": "yes"}).status_code == 302
        act(admin, "delete_selected", [second], post="yes")
        assert len(rows()) == 1

    def test_forged_requests_are_refused(self, admin: Client) -> None:
        (row,) = quarantine("no event")
        client = Client(enforce_csrf_checks=True)
        client.cookies = admin.cookies
        assert act(client, "discard", [row]).status_code == 403
        assert statuses() == ["pending"]


SCRIPT = "</pre></title><script>alert('\"1\"')</script><img src=x onerror=alert(1)>{{ 7 }}"


def contain(value: Any) -> Any:
    """Return a copy of `value` in which each text and each key is an attack."""
    if isinstance(value, dict):
        return {key: contain(child) for key, child in value.items()} | {SCRIPT: SCRIPT}
    return SCRIPT


class TestHostileContent:
    @pytest.mark.parametrize(
        "keep",
        [
            {},
            {"context": {"library": {"name": "analytics-ios"}}, "type": "track"},
            {
                **make_event(userId="404"),
                "context": {"library": {"name": "analytics-ios"}, SCRIPT: SCRIPT},
                "properties": make_properties(
                    name=SCRIPT,
                    data={SCRIPT: SCRIPT},
                    context={SCRIPT: SCRIPT, "course_id": SCRIPT},
                ),
                "messageId": SCRIPT,
            },
        ],
    )
    def test_nothing_of_an_event_becomes_a_script(
        self, admin: Client, keep: dict[str, Any]
    ) -> None:
        event = {**contain(make_event()), **keep}
        QuarantinedEvent.objects.all().delete()
        deliver(event, SCRIPT, [SCRIPT])
        post(SCRIPT.encode())
        User.objects.create(pk=404, username=SCRIPT)
        QuarantinedEvent.objects.create(
            payload=SCRIPT,
            reason=SCRIPT[:50],
            message_id=SCRIPT,
            user_id=SCRIPT,
            detail=SCRIPT,
            event_name=SCRIPT,
        )
        texts = [page(admin), page(admin, q=SCRIPT), page(admin, reason=SCRIPT)]
        for row in rows():
            texts.append(detail(admin, row))
            texts.append(page(admin, f"{row.pk}/delete/"))
            texts.append(page(admin, f"{row.pk}/history/"))
            texts.append(act(admin, "release", [row]).content.decode())
        texts.append(act(admin, "delete_selected", rows()).content.decode())
        texts.append(act(admin, "discard", rows()).content.decode())
        assert escape(SCRIPT) in texts[0]
        for text in texts:
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "</pre></title>" not in text

    def test_every_event_of_the_corpus_can_be_looked_at_and_released(
        self, admin: Client, learner: User
    ) -> None:
        texts = [
            render(FIELDS[number % len(FIELDS)], text)
            for number, text in enumerate(VALUES.values())
        ]
        assert post(as_batch([*texts, *list(VALUES.values())[::5]])) == 200
        for body in list(MALFORMED.values())[::5]:
            assert post(body) == 400
        assert len(listed(page(admin, all=""))) >= 50
        for row in rows()[::3]:
            detail(admin, row)
        act(admin, "release", rows())
        assert {row.attempts for row in rows()} == {1}
