"""The whole way over real HTTP: the demo as a person runs it, and the site behind real servers."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.demo.server import GUNICORN_THREADS, SECRET, TIMEOUT_SECONDS, UVICORN, serve
from tests.factories import make_event, make_event_of_website, make_properties

USERS = {number: f"learner-{number}" for number in range(1, 21)}
THREADS = 8
DELIVERIES_PER_THREAD = 12


def test_the_demo_shows_what_became_of_each_delivery() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "tests.demo"], capture_output=True, text=True, timeout=60
    )
    assert (demo.returncode, demo.stderr) == (0, "")
    statuses = re.findall(r"^  (\d{3})  (.{34}).*?(\d+) tracking-log lines$", demo.stdout, re.M)
    assert [(int(status), int(lines)) for status, _, lines in statuses] == [
        *[(200, 1)] * 2,
        *[(200, 0)] * 4,
        (200, 75),
        (401, 0),
        (400, 0),
    ]
    assert '"name": "edx.video.loaded"' in demo.stdout
    assert re.search(r"^  rejected  user_not_found +5$", demo.stdout, re.M)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"GUNICORN_CMD_ARGS": "--no-such-option"}, "The site does not answer"),
        (
            {"DEMO_SIGNATURE_SECRET": "unknown to the demo"},
            "Not as expected: a video, from a phone",
        ),
    ],
    ids=["the server does not start", "the site refuses"],
)
def test_the_demo_says_what_is_wrong(environ: dict[str, str], message: str) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "tests.demo"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
    )
    assert demo.returncode == 1
    assert message in demo.stderr


def test_the_demo_goes_on_serving_on_demand() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.demo", "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout
        lines: list[str] = []
        while not lines or "Interrupt" not in lines[-1]:
            lines.append(demo.stdout.readline())
        shown = "".join(lines)
        url = re.findall(r"^  (http://\S+)$", shown, re.M)[0]
        example = Path(re.findall(r"-d @(\S+)", shown)[0])
        request = urllib.request.Request(
            url, example.read_bytes(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        assert len((example.parent / "tracking.log").read_text().splitlines()) == 1
        demo.send_signal(signal.SIGINT)
        assert demo.wait(TIMEOUT_SECONDS) == 0
    assert not example.parent.exists()


def make_batch(sender: int, number: int) -> list[dict[str, Any]]:
    """Return events that tell in every part of them who sent them, amid others that must not."""
    user_id = 1 + (sender * DELIVERIES_PER_THREAD + number) % len(USERS)
    mark = f"{sender}-{number}"
    own = make_event(
        userId=str(user_id),
        messageId=mark,
        properties=make_properties(
            name=f"event.{mark}", data={"mark": mark}, context={"mark": mark, f"only-{mark}": 1}
        ),
    )
    return [own, make_event_of_website(), make_event(userId="999", messageId=mark), own]


@pytest.mark.parametrize("server", [GUNICORN_THREADS, UVICORN], ids=["wsgi", "asgi"])
def test_deliveries_at_the_same_time_never_mix(server: Sequence[str], tmp_path: Path) -> None:
    def send_all(sender: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        statuses = []
        for number in range(DELIVERIES_PER_THREAD):
            connection.request(
                "POST",
                "/segmentio/event/",
                json.dumps(make_batch(sender, number)),
                {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"},
            )
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        return statuses

    with serve(tmp_path, USERS, server=server) as port, ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(send_all, range(THREADS)))
    assert results == [[200] * DELIVERIES_PER_THREAD] * THREADS

    lines = (tmp_path / "tracking.log").read_text().splitlines()
    marks: Counter[str] = Counter()
    for event in map(json.loads, lines):
        context, mark = event["context"], event["data"]["mark"]
        marks[mark] += 1
        assert event["name"] == f"event.{mark}"
        assert context["mark"] == mark
        assert [key for key in context if key.startswith("only-")] == [f"only-{mark}"]
        assert context["username"] == USERS[context["user_id"]]
    assert len(marks) == THREADS * DELIVERIES_PER_THREAD
    assert set(marks.values()) == {2}
