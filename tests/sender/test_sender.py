"""Segment's own sender delivers to a real server of ours, and what comes out is what went in.

The sender is a package from npm, played by send.cjs; what it writes on the wire is neither built
nor encoded here. Run `tests/sender/install` once, then `pytest -m sender`: without -m these tests
are left out, because they need Node.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, cast
from urllib.parse import quote

import pytest

from segmentio_bridge.testing import sign
from tests.demo.server import TIMEOUT_SECONDS, serve
from tests.factories import make_event, make_event_of_website, make_properties

pytestmark = pytest.mark.sender

SEND = Path(__file__).with_name("send.cjs")
PATH = "/segmentio/event"
USERS = {1: "ada", 2: "grace", 3: "alan"}
KEY = "a key with spaces, + & %"
SHARED_SECRET = "schlüssel that Segment signs with 🔏"

#: What the sites of these tests are configured with; "" is none.
CREDENTIALS = {
    "key": (KEY, ""),
    "key and signature": (KEY, SHARED_SECRET),
    "signature": ("", SHARED_SECRET),
}
#: Where to deliver, and whether to sign. A site without a shared secret disregards signatures.
WAYS_IN = [("key", False), ("key", True), ("key and signature", True), ("signature", True)]


class Result(TypedDict):
    """What send.cjs tells about one delivery."""

    job: int
    event: int | None
    status: int
    error: str | None
    attempts: int
    statuses: list[int]
    sent: NotRequired[str]


class Captured(NamedTuple):
    """A request as it came over the wire, with the names of its headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Site:
    """A running site, as Segment's operator and the reader of its tracking log know it."""

    def __init__(self, name: str, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self._key, self._shared_secret = CREDENTIALS[name]
        self._tracking_log = directory / "tracking.log"
        self._read = len(self._log())

    def url(self, *, port: int | None = None, path: str = PATH) -> str:
        """Return the URL to deliver to, at the site's own port or at that of a relay."""
        query = f"?key={quote(self._key)}" if self._key else ""
        return f"http://127.0.0.1:{port or self.port}{path}{query}"

    def job(self, **job: Any) -> dict[str, Any]:
        """Return a job for send.cjs that delivers to this site with its credentials."""
        return {"url": self.url(), "sharedSecret": self._shared_secret or None, **job}

    def emitted(self) -> list[dict[str, Any]]:
        """Return what the tracking log has got since this was asked last."""
        log = self._log()
        lines = log[self._read :].splitlines()
        self._read = len(log)
        return [json.loads(line) for line in lines]

    def _log(self) -> bytes:
        return self._tracking_log.read_bytes() if self._tracking_log.exists() else b""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, Path]]]:
    """Port and directory of a server for each kind of CREDENTIALS."""
    play()  # nothing, but that shows whether the sender is installed
    with ExitStack() as stack:
        running = {}
        for name, (key, shared_secret) in CREDENTIALS.items():
            directory = tmp_path_factory.mktemp("site")
            environ = {"DEMO_WEBHOOK_SECRET": key, "DEMO_SIGNATURE_SECRET": shared_secret}
            port = stack.enter_context(serve(directory, USERS, environ=environ))
            running[name] = (port, directory)
        yield running


@pytest.fixture
def sites(servers: Mapping[str, tuple[int, Path]]) -> dict[str, Site]:
    """The sites, by the name of their CREDENTIALS, with nothing emitted yet."""
    return {name: Site(name, port, directory) for name, (port, directory) in servers.items()}


def play(*jobs: dict[str, Any]) -> list[Result]:
    """Let Segment's sender play jobs, one after the other; send.cjs describes them."""
    node = shutil.which("node")
    if node is None:
        pytest.fail(
            "Segment's sender needs Node: install it, and run tests/sender/install.", pytrace=False
        )
    process = subprocess.run(
        [node, str(SEND)],
        input=json.dumps(jobs),
        capture_output=True,
        encoding="utf-8",
        timeout=2 * TIMEOUT_SECONDS,
        check=False,
    )
    if process.returncode != 0:
        pytest.fail(
            "Segment's sender did not play; to install it, run tests/sender/install. It says:\n"
            + process.stderr,
            pytrace=False,
        )
    return cast("list[Result]", json.loads(process.stdout))


def assert_delivered(results: list[Result]) -> list[dict[str, Any]]:
    """Assert that every delivery was taken at once; return the events sent, in their order."""
    for result in results:
        assert result["error"] is None
        assert result["statuses"] == [200]
    return [event for result in results for event in events_in(result["sent"])]


def events_in(body: str | bytes) -> list[dict[str, Any]]:
    """Return the events of a body, whether a single one or a batch."""
    value = json.loads(body)
    return value if isinstance(value, list) else [value]


def assert_emitted(site: Site, events: list[dict[str, Any]]) -> None:
    """Assert that `events`, as they were sent, are what was emitted: all, once, in this order."""
    emitted = site.emitted()
    assert len(emitted) == len(events)
    for line, event in zip(emitted, events, strict=True):
        context = line["context"]
        sent_context = event["context"]
        # As JSON, which tells 1 from 1.0 and from true, and has an order of keys.
        assert line["name"] == event["properties"]["name"]
        assert json.dumps(line["data"]) == json.dumps(event["properties"]["data"])
        assert json.dumps(context["client"]) == json.dumps(
            {
                key: value
                for key, value in sent_context.items()
                if key not in ("traits", "integrations", "userAgent")
            }
        )
        assert context["agent"] == sent_context["userAgent"]
        assert context["username"] == USERS[int(event["userId"])]
        assert context["label"] == event["properties"]["label"]
        for ours, theirs in (("timestamp", "timestamp"), ("received_at", "receivedAt")):
            assert datetime.fromisoformat(context[ours]) == datetime.fromisoformat(event[theirs])


def make_events(count: int) -> list[dict[str, Any]]:
    """Return events of a phone's video player that can be told apart by their data."""
    return [
        make_event(
            userId=str(place % len(USERS) + 1),
            properties=make_properties(
                name=f"edx.video.{'paused' if place % 2 else 'played'}",
                label=f"Welcome, part {place}",
                data={"code": "mobile", "currentTime": place + 0.48, "id": f"video-{place}"},
            ),
        )
        for place in range(count)
    ]


# Events of about 2 KB as the sender makes them up, each with another set of data. Every fifth is of
# no interest to the site, so that those that are do not stand where they stood in the batch.
GENERATED = """
(count => generate({count, seed: count}).map((event, place) => ({
  ...event,
  type: place % 5 === 2 ? 'identify' : 'track',
  userId: String(place % 3 + 1),
  properties: {
    name: place % 2 ? 'edx.video.paused' : 'edx.video.played',
    label: `Part ${place}`,
    context: {app_name: 'edx.mobileapp.android', course_id: 'course-v1:ExampleX+EX101+2026_T1'},
    data: {place, ...(event.properties ?? event.traits)},
  },
})))
"""


@pytest.mark.parametrize(("name", "signed"), WAYS_IN)
def test_single_events(sites: dict[str, Site], name: str, signed: bool) -> None:
    site = sites[name]
    events = make_events(3)
    strangers = [make_event_of_website(), make_event(type="identify"), make_event(userId="404")]
    delivered = [events[0], *strangers, *events[1:]]
    shared_secret = SHARED_SECRET if signed else None

    for path in (PATH, f"{PATH}/"):
        url = site.url(path=path)
        sent = assert_delivered(
            play(site.job(url=url, sharedSecret=shared_secret, events=delivered))
        )

        assert sent == delivered
        assert_emitted(site, events)


@pytest.mark.parametrize("size", [1, 2, 1000, 4000])
@pytest.mark.parametrize(("name", "signed"), WAYS_IN)
def test_a_batch(sites: dict[str, Site], name: str, signed: bool, size: int) -> None:
    site = sites[name]

    results = play(
        site.job(
            sharedSecret=SHARED_SECRET if signed else None,
            eventsSource=f"({GENERATED})({size})",
            batch=True,
        )
    )

    assert len(results) == 1
    sent = assert_delivered(results)
    assert [event["properties"]["data"]["place"] for event in sent] == list(range(size))
    assert_emitted(site, [event for event in sent if event["type"] == "track"])


@pytest.mark.parametrize("batch", [False, True])
def test_the_key_in_a_header_that_the_operator_adds(sites: dict[str, Site], batch: bool) -> None:
    site = sites["key"]

    results = play(
        site.job(
            url=f"http://127.0.0.1:{site.port}{PATH}",
            headers={"Authorization": f"Bearer {KEY}"},
            events=make_events(2),
            batch=batch,
        )
    )

    assert_emitted(site, assert_delivered(results))


#: A value in JavaScript, the same on the wire, and the same in Python.
NUMBERS: list[tuple[str, str, object]] = [
    ("1e21", "1e+21", 1e21),
    ("-1e21", "-1e+21", -1e21),
    ("1e20", "100000000000000000000", 10**20),
    ("2 ** 53", "9007199254740992", 2**53),
    ("123456789012345678901", "123456789012345680000", 123456789012345680000),
    ("1e-7", "1e-7", 1e-07),
    ("0.000001", "0.000001", 1e-06),
    ("-0", "0", 0),
    ("0.1", "0.1", 0.1),
    ("0.1 + 0.2", "0.30000000000000004", 0.1 + 0.2),
    ("1.0", "1", 1),
    ("-100.00", "-100", -100),
    ("Number.MAX_VALUE", "1.7976931348623157e+308", 1.7976931348623157e308),
    ("Number.MIN_VALUE", "5e-324", 5e-324),
    ("NaN", "null", None),
    ("Infinity", "null", None),
    ("undefined", "null", None),
    ("new Date(0)", '"1970-01-01T00:00:00.000Z"', "1970-01-01T00:00:00.000Z"),
]
STRINGS: list[tuple[str, str, str]] = [
    (r"'\u2028'", '"\u2028"', "\u2028"),
    (r"'\u2029'", '"\u2029"', "\u2029"),
    (r"'\u{1f600}'", '"😀"', "😀"),
    (r"'\u{1f468}\u200d\u{1f469}\u200d\u{1f467}'", '"👨\u200d👩\u200d👧"', "👨\u200d👩\u200d👧"),
    (r"'\ud83d'", r'"\ud83d"', "\ud83d"),
    (r"'\ude00'", r'"\ude00"', "\ude00"),
    (r"'\ude00\ud83d'", r'"\ude00\ud83d"', "\ude00\ud83d"),
    (r"'\ud83d\ud83d\ude00'", r'"\ud83d😀"', "\ud83d😀"),
    (r"'\0\b\t\n\v\f\r'", r'"\u0000\b\t\n\u000b\f\r"', "\0\b\t\n\v\f\r"),
    (r"'\x1f\x7f\x80\x9f'", '"\\u001f\x7f\x80\x9f"', "\x1f\x7f\x80\x9f"),
    (r"'\ufeff\ufffd\uffff'", '"\ufeff\ufffd\uffff"', "\ufeff\ufffd\uffff"),
    (r"""'"\\/</script>'""", r'''"\"\\/</script>"''', '"\\/</script>'),
    ("'e\\u0301 \\u00e9'", '"e\u0301 \u00e9"', "e\u0301 \u00e9"),
    ("''", '""', ""),
]
ODD_IN_JAVASCRIPT = (
    f"{{values: [{', '.join(source for source, _, _ in [*NUMBERS, *STRINGS])}],"
    f" keys: {{{', '.join(f'[{source}]: -0' for source, _, _ in STRINGS)}}}}}"
)
ODD_ON_THE_WIRE = (
    f'{{"values":[{",".join(wire for _, wire, _ in [*NUMBERS, *STRINGS])}],'
    f'"keys":{{{",".join(f"{wire}:0" for _, wire, _ in STRINGS)}}}}}'
)
ODD_IN_PYTHON = {
    "values": [value for _, _, value in [*NUMBERS, *STRINGS]],
    "keys": {value: 0 for _, _, value in STRINGS},
}


def odd(event: dict[str, Any]) -> str:
    """Return `event` in JavaScript, with the odd values wherever an event has room for them."""
    names = "String.fromCharCode(0xd83d, 0x2028, 0xd83d, 0xde00, 0xde00)"
    return f"""(event => ({{
      ...event,
      context: {{...event.context, odd: {ODD_IN_JAVASCRIPT}, traits: {ODD_IN_JAVASCRIPT}}},
      properties: {{
        ...event.properties, name: {names}, label: {names}, data: {ODD_IN_JAVASCRIPT},
      }},
      messageId: {names},
      ...{ODD_IN_JAVASCRIPT}.keys,
    }}))({json.dumps(event)})"""


@pytest.mark.parametrize(("name", "signed"), WAYS_IN)
def test_what_javascript_writes_otherwise(sites: dict[str, Site], name: str, signed: bool) -> None:
    site = sites[name]
    first, second, third = make_events(3)
    shared_secret = SHARED_SECRET if signed else None

    results = play(
        site.job(eventsSource=f"[{odd(first)}]", sharedSecret=shared_secret),
        *[
            site.job(eventsSource=events, sharedSecret=shared_secret, batch=True)
            for events in (
                f"[{odd(first)}]",
                f"[{odd(first)}, {json.dumps(second)}, {odd(third)}]",
                f"[{json.dumps(first)}, {odd(second)}, {json.dumps(third)}]",
            )
        ],
    )

    sent = assert_delivered(results)
    for result, count in zip(results, (1, 1, 2, 1), strict=True):
        body = result["sent"]
        assert body.count(f'"data":{ODD_ON_THE_WIRE}') == count
        # Whoever verified the signature of this instead of what was received would refuse it.
        again = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":"))
        assert again != body
    odd_places = [0, 1, 2, 4, 6]
    assert [json.dumps(sent[place]["properties"]["data"]) for place in odd_places] == [
        json.dumps(ODD_IN_PYTHON)
    ] * len(odd_places)
    assert_emitted(site, sent)


@pytest.mark.parametrize(
    ("name", "query", "changes"),
    [
        ("key", "", {}),
        ("key", "?key=a%20guess", {}),
        ("key", "", {"sharedSecret": SHARED_SECRET}),
        ("key", "", {"headers": {"Authorization": "Bearer a guess"}}),
        ("key and signature", None, {"sharedSecret": "a guess"}),
        ("key and signature", None, {"sharedSecret": KEY}),
        ("key and signature", None, {"sharedSecret": None}),
        ("key and signature", "", {}),
        ("key and signature", "?key=a%20guess", {}),
        ("signature", None, {"sharedSecret": "a guess"}),
        ("signature", None, {"sharedSecret": None}),
        ("signature", f"?key={quote(SHARED_SECRET)}", {"sharedSecret": None}),
    ],
)
def test_a_wrong_shared_secret_or_key_is_refused_and_emits_nothing(
    sites: dict[str, Site], name: str, query: str | None, changes: dict[str, Any]
) -> None:
    site = sites[name]
    url = site.url() if query is None else f"http://127.0.0.1:{site.port}{PATH}{query}"
    events = make_events(2)

    results = play(
        site.job(url=url, events=events[:1], **changes),
        site.job(url=url, events=events, batch=True, **changes),
    )

    assert [result["statuses"] for result in results] == [[401], [401]]
    assert site.emitted() == []


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_other_methods_that_the_operator_can_choose_are_refused(
    sites: dict[str, Site], method: str
) -> None:
    site = sites["key and signature"]

    results = play(site.job(events=make_events(1), method=method))

    assert [result["statuses"] for result in results] == [[405]]
    assert site.emitted() == []


def send(port: int, request: Captured) -> int:
    """Send a captured request once more, and return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    headers = {**request.headers, "content-length": str(len(request.body))}
    try:
        connection.request("POST", request.path, request.body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@contextmanager
def relay(site: Site, *, refusals: int = 0) -> Iterator[tuple[int, list[Captured]]]:
    """Pass requests on to the site, but answer the first few 503 instead.

    Yields the relay's port and the requests that it got, in their order.
    """
    captured: list[Captured] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Captured(self.path, headers, body)
            captured.append(request)
            status = 503 if len(captured) <= refusals else send(site.port, request)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, captured
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["key and signature", "signature"])
def signing_site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    """A site that verifies signatures."""
    return sites[request.param]


def capture(site: Site, **job: Any) -> Captured:
    """Let the sender deliver to `site`, and return its one request, which was taken."""
    with relay(site) as (port, captured):
        results = play(site.job(url=site.url(port=port), **job))
    assert_emitted(site, assert_delivered(results))
    [request] = captured
    assert request.body.decode() == results[0]["sent"]
    return request


def change(request: Captured, old: bytes, new: bytes) -> Captured:
    """Return `request` with other bytes somewhere in its body, and the signature that it had."""
    assert request.body.count(old) == 1
    return request._replace(body=request.body.replace(old, new))


@pytest.mark.parametrize("batch", [False, True])
def test_the_signature_for_tests_is_the_one_the_sender_makes(
    signing_site: Site, batch: bool
) -> None:
    event = odd(make_events(1)[0])
    source = f"[{event}, {event}]" if batch else f"[{event}]"

    request = capture(signing_site, eventsSource=source, batch=batch)

    assert request.headers["x-signature"] == sign(request.body, SHARED_SECRET)


def test_a_tampered_single_event_is_refused(signing_site: Site) -> None:
    request = capture(signing_site, events=make_events(1))

    assert send(signing_site.port, change(request, b"video-0", b"video-9")) == 401
    assert send(signing_site.port, change(request, b'{"code"', b'{ "code"')) == 401
    assert signing_site.emitted() == []


def test_a_tampered_first_element_is_refused(signing_site: Site) -> None:
    request = capture(signing_site, events=make_events(3), batch=True)

    assert send(signing_site.port, change(request, b"video-0", b"video-9")) == 401
    assert send(signing_site.port, change(request, b'"id":"video-0"', b'"id": "video-0"')) == 401
    swapped = json.dumps(json.loads(request.body)[::-1], separators=(",", ":")).encode()
    assert send(signing_site.port, request._replace(body=swapped)) == 401
    assert signing_site.emitted() == []


def test_a_tampered_later_element_is_accepted_by_design_as_segment_signs_only_the_first(
    signing_site: Site,
) -> None:
    request = capture(signing_site, events=make_events(3), batch=True)
    forged = change(request, b"video-1", b"video-9")

    assert send(signing_site.port, forged) == 200
    assert_emitted(signing_site, events_in(forged.body))

    # The signature of a single event is as good as that of a batch which begins with it.
    request = capture(signing_site, events=make_events(1))
    forged = request._replace(body=b"[%b,%b]" % (request.body, json.dumps(make_event()).encode()))

    assert send(signing_site.port, forged) == 200
    assert_emitted(signing_site, events_in(forged.body))


def test_a_tampered_later_element_is_refused_from_whoever_lacks_the_key(
    sites: dict[str, Site],
) -> None:
    site = sites["key and signature"]
    request = capture(site, events=make_events(3), batch=True)
    forged = change(request, b"video-1", b"video-9")

    assert send(site.port, forged._replace(path=PATH)) == 401
    assert site.emitted() == []


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("name", "signed"), WAYS_IN)
def test_what_a_503_turned_away_is_emitted_once_after_the_retry(
    sites: dict[str, Site], name: str, signed: bool, batch: bool
) -> None:
    site = sites[name]
    events = make_events(5 if batch else 1)

    with relay(site, refusals=1) as (port, captured):
        job = site.job(
            url=site.url(port=port),
            sharedSecret=SHARED_SECRET if signed else None,
            events=events,
            batch=batch,
        )
        # One attempt is all the sender makes; Segment puts what failed back into its queue.
        refused, *delivered = play(job, job)

    assert refused["statuses"] == [503]
    sent = assert_delivered(delivered)
    assert captured[0] == captured[1]
    assert sent == events
    assert_emitted(site, sent)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_what_the_site_itself_answered_503_is_emitted_once_after_the_retry(
    sites: dict[str, Site], name: str
) -> None:
    site = sites[name]
    events = make_events(5)
    database = site.directory / "demo.sqlite3"
    aside = database.rename(site.directory / "aside.sqlite3")
    database.mkdir()  # or SQLite would make an empty database in its place
    try:
        results = play(
            site.job(events=events[:4], batch=True),
            site.job(events=events[4:]),
        )
    finally:
        database.rmdir()
        aside.rename(database)
    assert [result["statuses"] for result in results] == [[503], [503]]
    assert site.emitted() == []

    # Segment may put its batches together otherwise at the retry.
    results = play(
        site.job(events=events[2:4], batch=True),
        site.job(events=[events[4], events[0]], batch=True),
        site.job(events=events[1:2]),
    )

    sent = assert_delivered(results)
    assert sent == [*events[2:], *events[:2]]
    assert_emitted(site, sent)
