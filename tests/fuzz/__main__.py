"""Coverage-guided fuzzing of the endpoint, with atheris (https://github.com/google/atheris).

    pip install -e '.[test,fuzz]'
    python -m tests.fuzz -max_total_time=3600

Arguments are those of libFuzzer (`-help=1` lists them). It goes on until it is interrupted, or
finds an input for which something does not hold that must hold for every input. That input is
written to build/fuzz/findings, and `python -m tests.fuzz build/fuzz/findings/crash-…` tries it
again. What has been found out about the code is kept in build/fuzz/corpus, for the next run.

The first byte of an input says what the others are: see `Kind`. The first corpus is made of
tests/hostile.py, and that is where a finding belongs.
"""

from __future__ import annotations

import enum
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import atheris

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

# What is to be instrumented has to be imported here for the first time.
with atheris.instrument_imports(include=["segmentio_bridge", "dateutil", "opaque_keys"]):
    import django

    django.setup()
    from segmentio_bridge import segmentio, testing  # noqa: F401 - imports all there is
    from segmentio_bridge.exceptions import MalformedBody
    from segmentio_bridge.payload import parse_events

from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http.response import HttpResponseBase
from django.test import RequestFactory, override_settings

from tests import hostile
from tests.demo.server import SECRET
from tests.hostile import FIELDS, MOMENTS, VALUES, Endpoint, Field

_DIRECTORY = Path("build", "fuzz")
_MAX_BYTES = 4096
_SIGNATURE_SECRET = "the secret that signatures are made with"
_VALUES = [*VALUES.values(), *MOMENTS.values()]
_MAX_LEVELS = 5

#: The last keys of the fields whose strings are not only handed on, but read.
_READ_AS_TEXT = frozenset({("userId",), ("timestamp",), ("receivedAt",), ("course_id",), ("name",)})


class Kind(enum.IntEnum):
    """What the bytes of an input behind the first are."""

    BODY = 0
    #: One byte for a field of an event, and a string for it.
    TEXT = 1
    #: Choices of fields, and of values for them.
    EVENTS = 2
    #: The query string and the headers of a request.
    REQUEST = 3
    #: A body to be signed.
    SIGNED_BODY = 4
    #: The elements of a batch behind a first that is so long that the batch is parsed in pieces.
    PIECES = 5


class FastEndpoint(Endpoint):
    """The endpoint without the test client, which makes Django's signals grow at every request."""

    def __init__(self, *logs: Any) -> None:
        super().__init__(*logs)
        self._handler = WSGIHandler()

    def send(self, body: bytes, environ: dict[str, Any]) -> HttpResponseBase:
        request = RequestFactory().generic("POST", hostile.PATH, body, **environ)
        return self._handler.get_response(request)


class _Listener(logging.Handler):
    def __init__(self, listen: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._listen = listen

    def emit(self, record: logging.LogRecord) -> None:
        self._listen(record)


def try_input(endpoint: Endpoint, data: bytes) -> None:
    """Send to the endpoint what `data` says, and assert what must hold."""
    if not data:
        return
    kind = Kind(data[0] % len(Kind))
    data = data[1:]
    if kind is Kind.BODY:
        try_body(endpoint, data)
    elif kind is Kind.TEXT:
        field = FIELDS[data[0] % len(FIELDS)] if data else ()
        text = json.dumps(data[1:].decode("utf-8", "surrogateescape"))
        endpoint.deliver_elements([hostile.render(field, text)])
    elif kind is Kind.EVENTS:
        provider = atheris.FuzzedDataProvider(data)
        count = provider.ConsumeIntInRange(1, 3)
        endpoint.deliver_elements([make_event(provider) for _ in range(count)])
    elif kind is Kind.REQUEST:
        try_request(endpoint, atheris.FuzzedDataProvider(data))
    elif kind is Kind.SIGNED_BODY:
        try_signed_body(endpoint, data)
    else:
        try_pieces(data)


def try_body(endpoint: Endpoint, body: bytes) -> None:
    """Deliver `body`; if it is JSON, the same comes of it a second time."""
    answer = endpoint.deliver(body)
    if answer.status == 200:
        assert hostile.process_unchanged(body) == answer.outcomes


def try_signed_body(endpoint: Endpoint, body: bytes) -> None:
    """Deliver `body` with a signature, which is right, and then with others, which are not."""
    with override_settings(TRACKING_SEGMENTIO_SIGNATURE_SECRET=_SIGNATURE_SECRET):
        for secret, statuses in ((_SIGNATURE_SECRET, (200, 400)), ("another", (401,))):
            signature = testing.sign(body, secret)
            assert endpoint.post(body, HTTP_X_SIGNATURE=signature).status in statuses


def try_pieces(elements: bytes) -> None:
    """Parse a long batch, and find that it is the same as when it is parsed as a whole."""
    body = b'[{"a":"%b"},%b,{"a":0}]' % (b"x" * 70_000, elements)
    try:
        expected = json.loads(
            body.decode(), parse_constant=_refuse, parse_float=_read_float, parse_int=_read_integer
        )
    except (ValueError, RecursionError):
        expected = None
    try:
        found = list(parse_events(body))
    except MalformedBody:
        found = None
    assert repr(found) == repr(expected)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _read_float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(digits)
    return number


def _read_integer(digits: str) -> int:
    _read_float(digits)
    return int(digits)


def try_request(endpoint: Endpoint, provider: Any) -> None:
    """Send a request with any query string and headers; without the secret it is refused."""
    query = make_text(provider, [*hostile.QUERIES.values(), hostile.QUERY])
    content_type = make_text(
        provider, ["application/json", *(name for name, _ in hostile.CONTENT_TYPES.values())]
    )
    headers = {
        "HTTP_AUTHORIZATION": make_text(provider, [*hostile.AUTHORIZATIONS.values()]),
        "HTTP_CONTENT_ENCODING": make_text(provider, ["", *hostile.CONTENT_ENCODINGS.values()]),
        "HTTP_TRANSFER_ENCODING": make_text(provider, ["", "chunked", "identity", "gzip"]),
    }
    try:
        RequestFactory().generic("POST", hostile.PATH, b"{}", content_type, QUERY_STRING=query)
    except (ValueError, LookupError, SuspiciousOperation):
        return  # Django itself fails on this content type, before it looks for a view.
    answer = endpoint.post(b"{}", query=query, content_type=content_type, **headers)
    if SECRET not in unquote_plus(query) and SECRET not in headers["HTTP_AUTHORIZATION"]:
        assert answer.status == 401


def make_text(provider: Any, texts: list[str]) -> str:
    """Return one of the texts, or another."""
    if provider.ConsumeBool():
        return str(provider.PickValueInList(texts))
    return str(provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 200)))


def make_event(provider: Any) -> str:
    """Return the text of an event that has strange values in up to three fields."""
    fields: dict[Field, str | None] = {}
    for _ in range(provider.ConsumeIntInRange(1, 3)):
        field = FIELDS[provider.ConsumeIntInRange(0, len(FIELDS) - 1)]
        fields[field] = None if provider.ConsumeIntInRange(0, 9) == 0 else make_value(provider)
    return hostile.render_fields(fields)


def make_value(provider: Any, level: int = 1) -> str:
    """Return a JSON text."""
    kinds = 6 if level == _MAX_LEVELS else 8
    match provider.ConsumeIntInRange(0, kinds):
        case 0:
            return str(provider.ConsumeInt(provider.ConsumeIntInRange(1, 20)))
        case 1:
            return json.dumps(provider.ConsumeRegularFloat())
        case 2:
            return hostile.objects(provider.ConsumeIntInRange(1, 300))
        case 3:
            return hostile.arrays(provider.ConsumeIntInRange(1, 300))
        case 4 | 5:
            return str(provider.PickValueInList(_VALUES))
        case 6:
            return make_string(provider)
        case 7:
            count = provider.ConsumeIntInRange(0, 4)
            return f"[{','.join(make_value(provider, level + 1) for _ in range(count))}]"
        case _:
            count = provider.ConsumeIntInRange(0, 4)
            members = (
                f"{make_string(provider)}:{make_value(provider, level + 1)}" for _ in range(count)
            )
            return f"{{{','.join(members)}}}"


def make_string(provider: Any) -> str:
    """Return the JSON text of a string."""
    return json.dumps(provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 64)))


def write_corpus(directory: Path) -> None:
    """Write tests/hostile.py as inputs, those that are too long for a fuzzer left out."""
    directory.mkdir(parents=True, exist_ok=True)
    bodies = [*hostile.MALFORMED.values(), *(body for body, _ in hostile.STRANGE.values())]
    seeds = [bytes([kind]) + body for body in bodies for kind in (Kind.BODY, Kind.SIGNED_BODY)]
    seeds += [
        bytes([Kind.BODY]) + hostile.render(field, text).encode()
        for field in FIELDS
        for text in _VALUES[::7]
    ]
    strings = [json.loads(text) for text in _VALUES if text.startswith('"')]
    seeds += [
        bytes([Kind.TEXT, number]) + string.encode("utf-8", "surrogatepass")
        for number, field in enumerate(FIELDS)
        if field[-1:] in _READ_AS_TEXT
        for string in strings
    ]
    seeds += [bytes([Kind.PIECES]) + text.encode() for text in _VALUES]
    seeds += [
        bytes([Kind.REQUEST]) + query.encode("utf-8", "surrogatepass")
        for query in hostile.QUERIES.values()
    ]
    for seed in seeds:
        if len(seed) <= _MAX_BYTES:
            (directory / hashlib.sha256(seed).hexdigest()[:40]).write_bytes(seed)


def main() -> None:
    """Fuzz until something is found or libFuzzer's arguments say that it is enough."""
    corpus, findings = _DIRECTORY / "corpus", _DIRECTORY / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    arguments = [f"-artifact_prefix={findings}{os.sep}", f"-max_len={_MAX_BYTES}", *sys.argv[1:]]
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        write_corpus(corpus)
        arguments.append(str(corpus))

    call_command("migrate", run_syncdb=True, verbosity=0)
    User.objects.create(pk=1, username="ada")
    events: list[dict[str, Any]] = []
    records: list[logging.LogRecord] = []
    logging.getLogger("tracking").addHandler(
        _Listener(lambda record: events.append(json.loads(record.getMessage())))
    )
    logging.getLogger("segmentio_bridge").addHandler(_Listener(records.append))
    with hostile.watch(events, records, FastEndpoint) as endpoint:
        atheris.Setup([sys.argv[0], *arguments], lambda data: try_input(endpoint, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
