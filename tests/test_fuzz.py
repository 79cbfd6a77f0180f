"""Properties of the endpoint that hold for any input, tried with inputs that nobody thought of.

A run of the tests tries a few hundred of each. `pytest --hypothesis-profile=ci tests/test_fuzz.py`
tries 3,000 of each, and `python -m tests.fuzz` goes on, led by the coverage of the code.
"""

from __future__ import annotations

import json
from datetime import UTC
from urllib.parse import quote, unquote_plus

from django.core.exceptions import SuspiciousOperation
from django.test import RequestFactory, override_settings
from hypothesis import assume, given
from hypothesis import strategies as st

from segmentio_bridge.exceptions import MalformedBody
from segmentio_bridge.payload import find_signable, parse_events
from segmentio_bridge.testing import sign
from segmentio_bridge.timestamps import parse_iso8601_timestamp
from tests import hostile
from tests.demo.server import SECRET
from tests.hostile import FIELDS, MOMENTS, VALUES, Endpoint, render_fields

# Any character, lone surrogates included: JSON can say them.
characters = st.characters(codec=None, exclude_categories=())
strings = st.text(characters, max_size=40)

# JSON texts. All numbers are such that an IEEE double can hold them.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    strings,
).map(json.dumps)


def objects_and_arrays(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(st.tuples(strings.map(json.dumps), texts), max_size=4)
    return st.one_of(
        st.lists(texts, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        members.map(lambda pairs: f"{{{','.join(f'{key}:{text}' for key, text in pairs)}}}"),
        st.integers(1, 300).map(hostile.objects),
        st.integers(1, 300).map(hostile.arrays),
    )


values = st.one_of(
    st.recursive(scalars, objects_and_arrays, max_leaves=12),
    st.sampled_from([*VALUES.values(), *MOMENTS.values()]),
)

# Realistic events that lack some fields, and have something strange in others.
events = st.dictionaries(st.sampled_from(FIELDS), st.none() | values, min_size=1, max_size=4).map(
    render_fields
)

# Bytes that come near to JSON.
fragments = st.lists(
    st.one_of(
        st.sampled_from(
            [b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\\", b"null", b"-", b"1"]
        ),
        st.sampled_from([b"\xef\xbb\xbf", b"\xff", b"\0", b"e9", b"NaN", b"\\ud800", b"\\u"]),
        st.binary(max_size=4),
        values.map(str.encode),
    ),
    max_size=12,
).map(b"".join)


@given(body=st.binary(max_size=300) | fragments)
def test_any_bytes(endpoint: Endpoint, body: bytes) -> None:
    answer = endpoint.deliver(body)
    try:
        top = json.loads(body)
    except (ValueError, RecursionError):
        top = None
    if not isinstance(top, dict | list):
        assert answer == (400, [], [])
    else:
        count = len(top) if isinstance(top, list) else 1
        assert answer.status == 400 or len(answer.outcomes) == count


@given(text=values)
def test_any_json(endpoint: Endpoint, text: str) -> None:
    answer = endpoint.deliver(text.encode())
    assert answer.status == (200 if text.startswith(("{", "[")) else 400)
    assert endpoint.deliver(text.encode()) == answer
    endpoint.deliver_elements([text])


@given(texts=st.lists(events, min_size=1, max_size=4))
def test_any_events_among_good_ones(endpoint: Endpoint, texts: list[str]) -> None:
    endpoint.deliver_elements(texts)


header_texts = st.text(st.characters(max_codepoint=255), max_size=60)
headers = st.fixed_dictionaries(
    {},
    optional={
        name: header_texts | st.sampled_from([*texts])
        for name, texts in {
            "HTTP_AUTHORIZATION": hostile.AUTHORIZATIONS.values(),
            "HTTP_X_SIGNATURE": hostile.SIGNATURES.values(),
            "HTTP_CONTENT_ENCODING": hostile.CONTENT_ENCODINGS.values(),
            "HTTP_TRANSFER_ENCODING": ["chunked", "identity"],
            "CONTENT_LENGTH": ["-1", "1e3", "9" * 30],
            "HTTP_USER_AGENT": ["Segment.io/1.0"],
            "REMOTE_ADDR": ["127.0.0.1"],
        }.items()
    },
)
queries = st.one_of(
    st.sampled_from([*hostile.QUERIES.values()]),
    header_texts,
    strings.map(lambda text: f"key={quote(text, errors='surrogatepass')}"),
)
content_types = st.one_of(
    st.sampled_from([content_type for content_type, _ in hostile.CONTENT_TYPES.values()]),
    header_texts,
    header_texts.map("application/json; charset={}".format),
)


@given(query=queries, content_type=content_types, environ=headers)
def test_any_stranger_is_refused(
    endpoint: Endpoint, query: str, content_type: str, environ: dict[str, str]
) -> None:
    assume(SECRET not in unquote_plus(query) or query in hostile.QUERIES.values())
    assume(django_takes(content_type, query))
    answer = endpoint.post(b"[]", query=query, content_type=content_type, **environ)
    assert answer == (401, [], [])


@given(content_type=content_types, environ=headers)
def test_any_headers_beside_the_key(
    endpoint: Endpoint, content_type: str, environ: dict[str, str]
) -> None:
    assume(django_takes(content_type, hostile.QUERY))
    answer = endpoint.post(b"[]", content_type=content_type, **environ)
    assert answer.status in (200, 400, 413, 415, 503)


def django_takes(content_type: str, query: str) -> bool:
    """Tell whether Django makes a request of these, before anybody else sees them."""
    try:
        RequestFactory().generic(
            "POST", hostile.PATH, CONTENT_TYPE=content_type, QUERY_STRING=query
        )
    except (ValueError, LookupError, SuspiciousOperation):
        return False
    return True


@given(body=fragments | st.lists(events, max_size=3).map(hostile.as_batch), other=st.binary())
def test_any_body_can_be_signed(endpoint: Endpoint, body: bytes, other: bytes) -> None:
    *_, signed = find_signable(body)
    assert signed in body
    with override_settings(TRACKING_SEGMENTIO_SIGNATURE_SECRET=SECRET):
        answer = endpoint.post(body, HTTP_X_SIGNATURE=sign(body, SECRET))
        assert answer.status in (200, 400)
        assume(other not in find_signable(body))
        signature = sign(other, SECRET)
        assert endpoint.post(body, HTTP_X_SIGNATURE=signature).status == 401


# Batches of more than a few kilobytes are parsed in pieces: nobody may see that.
pieces = st.lists(
    st.one_of(
        st.sampled_from(["{", "}", "[", "]", ",", ":", '"', "\\", '{"a":', '},{"a":', '"},{"a":"']),
        st.sampled_from(['{"a":1}', '{"a":[{"a":{}},{"a":2}]}', '{",":["},{",":"]}', "[]", "0"]),
        values,
    ),
    max_size=12,
).map("".join)
paddings = st.sampled_from([0, 1, 1_000, 65_500, 65_536, 70_000])


def finite(text: str) -> float:
    """Read a number as itself; raise OverflowError for one that overflows."""
    value = float(text)
    int(value)
    return value if set(text) & set(".eE") else int(text)


@given(
    name=st.sampled_from(["a", ",", "", "},{", ":", "\\"]),
    texts=st.lists(pieces, max_size=3),
    padding=paddings,
)
def test_a_batch_is_parsed_like_any_json(name: str, texts: list[str], padding: int) -> None:
    first = f'{{"{name}":"{"x" * padding}"}}'
    body = f"[{','.join([first, *texts, first])}]".encode()
    try:
        expected = json.loads(body, parse_int=finite, parse_float=finite)
    except (ValueError, OverflowError):
        expected = None
    try:
        found = list(parse_events(body))
    except MalformedBody:
        found = None
    assert repr(found) == repr(expected)


@given(
    text=st.one_of(
        strings,
        st.text("0123456789-:.,TZ+ /WAPM", max_size=40),
        st.lists(
            st.sampled_from(
                [
                    *("2026", "-03-02", "T", "09:15", ":27", ".352", "Z", "+01:00", " ", "March"),
                    *(
                        "Mon",
                        "2",
                        "am",
                        "UTC",
                        "EST",
                        "99",
                        "1e5",
                        "\0",
                        "\u0662",
                        "nan",
                        ",",
                        "AD",
                    ),
                ]
            ),
            max_size=10,
        ).map("".join),
        st.datetimes(timezones=st.timezones() | st.just(UTC)).map(
            lambda moment: moment.isoformat()
        ),
    )
)
def test_any_moment(text: str) -> None:
    try:
        moment = parse_iso8601_timestamp(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC
    assert parse_iso8601_timestamp(text) == moment
    assert parse_iso8601_timestamp(moment.isoformat()) == moment
