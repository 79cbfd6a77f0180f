"""What the tests of the quarantine do to the site, and see of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import unescape
from typing import Any

from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client

from segmentio_bridge.quarantine.models import QuarantinedEvent
from tests.hostile import PATH, QUERY

ADMIN = "/admin/segmentio_bridge_quarantine/quarantinedevent/"


def post(body: bytes) -> int:
    """Deliver a body with the key, and return the status of the answer."""
    response = Client().generic(
        "POST", PATH, body, QUERY_STRING=QUERY, CONTENT_TYPE="application/json"
    )
    return response.status_code


def deliver(*events: object) -> int:
    """Deliver a batch of events, and return the status of the answer."""
    return post(json.dumps(events).encode())


def rows() -> list[QuarantinedEvent]:
    """Return what is in the quarantine, in the order it came."""
    return list(QuarantinedEvent.objects.order_by("pk"))


def quarantine(*events: object) -> list[QuarantinedEvent]:
    """Deliver events that all are rejected, and return their rows."""
    before = QuarantinedEvent.objects.count()
    assert deliver(*events) == 200
    new = rows()[before:]
    assert len(new) == len(events)
    return new


def statuses() -> list[str]:
    """Return the statuses of the rows, in the order they came."""
    return [row.status for row in rows()]


def page(client: Client, path: str = "", **query: Any) -> str:
    """Return a page of the quarantine's admin."""
    response = client.get(f"{ADMIN}{path}", query)
    assert response.status_code == 200
    return response.content.decode()


def detail(client: Client, row: QuarantinedEvent) -> str:
    """Return the page of an event."""
    return page(client, f"{row.pk}/change/")


def act(
    client: Client, action: str, chosen: Sequence[QuarantinedEvent], **fields: Any
) -> HttpResponse:
    """Run an action on rows, as the list or the buttons of an event do."""
    data = {"action": action, "index": 0, "_selected_action": [row.pk for row in chosen], **fields}
    response = client.post(ADMIN, data, follow=True)
    assert isinstance(response, HttpResponse)
    return response


def messages(response: HttpResponse) -> list[str]:
    """Return the messages at the top of a page, each after its level."""
    _, _, shown = response.content.decode().partition('<ul class="messagelist">')
    found = re.findall(r'<li class="(\w+)">(.*?)</li>', shown.partition("</ul>")[0], re.S)
    return [f"{level}: {unescape(text)}" for level, text in found]


def run(command: str, *arguments: str) -> tuple[int, str, str]:
    """Run a command, and return its exit status, its output and its error."""
    stdout = io.StringIO()
    try:
        call_command(command, *arguments, stdout=stdout, no_color=True)
    except CommandError as error:
        return error.returncode, stdout.getvalue(), str(error)
    return 0, stdout.getvalue(), ""


def table(output: str) -> dict[str, int]:
    """Return the numbers of a table by the last word before them."""
    lines = [line.split() for line in output.splitlines()[1:] if line[-1:].isdigit()]
    return {words[-2]: int(words[-1].replace(",", "")) for words in lines}


@contextmanager
def broken(is_refused: Callable[[str], bool]) -> Iterator[None]:
    """Have the database fail on the statements that are to be refused, as if it were down."""

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if is_refused(sql):
            raise OperationalError(f"the server has gone away, with {sql} and {params}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        yield
