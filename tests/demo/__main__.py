"""The demo: a site on SQLite behind gunicorn, and deliveries as Segment sends them, over HTTP.

python -m tests.demo            deliver, show what became of it, and end
python -m tests.demo --serve    go on serving, and print the URL
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import quote

from tests.demo.server import SECRET, TIMEOUT_SECONDS, read_lines, serve
from tests.factories import make_event, make_event_of_website, make_properties, without

PATH = "/segmentio/event"
USERS = {1: "ada", 2: "grace", 3: "alan"}


@dataclass(frozen=True)
class Delivery:
    """One request to make, with the answer and the number of tracking-log lines to expect."""

    title: str
    body: bytes
    status: int = 200
    emitted: int = 0
    secret: str = SECRET


def make_deliveries() -> list[Delivery]:
    """Return what the demo sends, in order."""
    forum_screen = make_event(
        properties={"label": "Forum: View Thread", "data": {"thread_id": "5f0c"}, "context": {}}
    )
    mixed = [
        *[make_event(userId=str(user_id)) for user_id in USERS for _ in range(25)],
        *[make_event_of_website() for _ in range(10)],
        *[make_event(type="identify") for _ in range(5)],
        *[make_event(userId="404") for _ in range(4)],
        *[make_event(userId=None) for _ in range(2)],
        without(make_event(), "timestamp"),
        make_event(timestamp="last Tuesday, after lunch"),
        make_event(properties=without(make_properties(), "data")),
        "not even an object",
    ]
    return [
        Delivery("a video, from a phone", _json(make_event(userId="1")), emitted=1),
        Delivery("a screen without a name (old app)", _json(forum_screen), emitted=1),
        Delivery("an event of the website", _json(make_event_of_website())),
        Delivery("an identify call", _json(make_event(type="identify"))),
        Delivery("an event without a user", _json(make_event(userId=None))),
        Delivery("an event of an unknown user", _json(make_event(userId="404"))),
        Delivery(f"a batch of {len(mixed)} mixed events", _json(mixed), emitted=25 * len(USERS)),
        Delivery("a wrong key", _json(make_event()), status=401, secret="a stranger's guess"),
        Delivery("malformed JSON", _json(make_event())[:-1], status=400),
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.demo",
        description="Deliver Segment's events to a small site and show what becomes of them.",
    )
    parser.add_argument(
        "--serve", action="store_true", help="go on serving until interrupted, and print the URL"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="segmentio-bridge-") as name:
        directory = Path(name)
        with serve(directory, USERS) as port:
            return keep_serving(port, directory) if options.serve else deliver_all(port, directory)


def deliver_all(port: int, directory: Path) -> int:
    """Send the deliveries and show what became of them; return 1 if it is not what it should be."""
    failures = []
    print(f"Deliveries to http://127.0.0.1:{port}{PATH}\n")
    for delivery in make_deliveries():
        logged_before = len(read_lines(directory / "tracking.log"))
        started = time.perf_counter()
        try:
            status = post(port, delivery)
        except OSError as error:
            print(f"The site does not answer: {error}", file=sys.stderr)
            print((directory / "server.log").read_text(), file=sys.stderr)
            return 1
        milliseconds = (time.perf_counter() - started) * 1000
        logged = read_lines(directory / "tracking.log")[logged_before:]
        print(
            f"  {status}  {delivery.title:36}  {milliseconds:6.1f} ms  "
            f"{len(logged):3} tracking-log lines"
        )
        if (status, len(logged)) != (delivery.status, delivery.emitted):
            failures.append(
                f"{delivery.title}: {delivery.status}, {delivery.emitted} lines expected"
            )
    for failure in failures:
        print(f"Not as expected: {failure}", file=sys.stderr)
    if failures:
        return 1
    print_tracking_log(read_lines(directory / "tracking.log"))
    print_outcomes(read_lines(directory / "outcomes.log"))
    return 0


def post(port: int, delivery: Delivery) -> int:
    """Make the request as Segment makes it, and return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(
            "POST",
            f"{PATH}?key={quote(delivery.secret)}",
            delivery.body,
            {"Content-Type": "application/json", "User-Agent": "Segment.io/1.0"},
        )
        return connection.getresponse().status
    finally:
        connection.close()


def print_tracking_log(lines: list[str]) -> None:
    """Show one line of the tracking log laid out, and the beginnings of a few others."""
    width = shutil.get_terminal_size().columns - 3
    print(f"\nThe tracking log has {len(lines)} lines. The first, laid out:\n")
    print(json.dumps(json.loads(lines[0]), indent=2))
    print("\nSome more, as they stand there:\n")
    for line in lines[1:5]:
        print(f"  {line[:width]}…")


def print_outcomes(lines: list[str]) -> None:
    """Show how many events came to which outcome, for which reason."""
    print(f"\n  {'outcome':10}{'reason':22}{'events':>6}")
    for line, count in sorted(Counter(lines).items()):
        status, reason = line.split()
        print(f"  {status:10}{reason:22}{count:6}")


def keep_serving(port: int, directory: Path) -> int:
    """Print how to send events to the site, and wait to be interrupted."""
    url = f"http://127.0.0.1:{port}{PATH}?key={quote(SECRET)}"
    example = directory / "event.json"
    example.write_bytes(_json(make_event(userId="1")))
    print(f"Serving at:\n\n  {url}\n\nUsers: {USERS}. Try, in another terminal:\n")
    print(f"  curl -i -H 'Content-Type: application/json' -d @{example} '{url}'")
    print(f"  tail -f {directory / 'tracking.log'}\n\nInterrupt with Ctrl-C.", flush=True)
    try:
        Event().wait()
    except KeyboardInterrupt:
        print("\nInterrupted.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
