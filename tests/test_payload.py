"""From bytes to raw events, and what of the bytes may be signed."""

from __future__ import annotations

import json
import re

import pytest

from segmentio_bridge.exceptions import MalformedBody
from segmentio_bridge.payload import find_signable, parse_events


def test_an_object_is_one_event() -> None:
    payload = parse_events(b' {"type": "track"}\n')
    assert list(payload) == [{"type": "track"}]
    assert payload.single == {"type": "track"}


@pytest.mark.parametrize("elements", [[], [{}], [{"a": 1}, None, "text", [1], {"b": 2}]])
def test_an_array_is_a_batch_of_anything_in_its_order(elements: list[object]) -> None:
    payload = parse_events(json.dumps(elements).encode())
    assert list(payload) == elements
    assert payload.single is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="white space"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b"42", id="a number"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{", id="truncated"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b"[{},]", id="trailing comma"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b'{"a": "\n"}', id="raw control character"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte order mark"),
        pytest.param('{"a": "é"}'.encode("latin-1"), id="Latin-1"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": Infinity}', id="Infinity"),
        pytest.param(b'[{}, {"a": -Infinity}]', id="-Infinity"),
        pytest.param(b'{"a": 1e999}', id="a float that overflows"),
        pytest.param(b'{"a": -' + b"9" * 400 + b"}", id="an integer that overflows"),
        pytest.param(b'{"a": ' + b"9" * 10_000 + b"}", id="an integer of 10,000 digits"),
        pytest.param(b"[" * 100_000, id="deep and truncated"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="too deep to parse"),
    ],
)
def test_everything_else_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        list(parse_events(body))
    # Neither the error nor its cause may carry the body to a log.
    assert str(caught.value) == ""
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_numbers_and_strings_are_kept_as_they_are() -> None:
    digits = "1" + "0" * 305
    body = f'[{{"a": {digits}, "b": 1e21, "c": -0.0, "d": "\\ud800\\u0000", "e": 1, "e": 2}}]'
    assert list(parse_events(body.encode())) == [
        {"a": int(digits), "b": 1e21, "c": -0.0, "d": "\ud800\0", "e": 2}
    ]


@pytest.mark.parametrize(
    ("body", "signable"),
    [
        (b'{"a": 1}', [b'{"a": 1}']),
        (b"", [b""]),
        (b"[]", [b"[]"]),
        (b" [", [b" ["]),
        (b'[{"a": 1e21, "b": 1.0}]', [b'[{"a": 1e21, "b": 1.0}]', b'{"a": 1e21, "b": 1.0}']),
        (b' [ \r\n\t{"a":1} , {"b":2}]', [b' [ \r\n\t{"a":1} , {"b":2}]', b'{"a":1}']),
        (
            b'[{"a":"\\ud800\xf0\x9f\x98\x80"},x',
            [b'[{"a":"\\ud800\xf0\x9f\x98\x80"},x', b'{"a":"\\ud800\xf0\x9f\x98\x80"}'],
        ),
        (b'["text", 1]', [b'["text", 1]', b'"text"']),
        # Longer than what is decoded at once, in the middle of an emoji and of a number.
        (
            b'["%b%b", 1]' % (b"x" * 65_532, "🚀".encode() * 2),
            [
                b'["%b%b", 1]' % (b"x" * 65_532, "🚀".encode() * 2),
                b'"%b%b"' % (b"x" * 65_532, "🚀".encode() * 2),
            ],
        ),
        (
            b"[%b12, 3]" % (b" " * 10 + b"1." + b"0" * 65_533),
            [
                b"[%b12, 3]" % (b" " * 10 + b"1." + b"0" * 65_533),
                b"1." + b"0" * 65_533 + b"12",
            ],
        ),
        (b"[[" + b" " * 70_000 + b"x", [b"[[" + b" " * 70_000 + b"x"]),
        (b"[NaN, 1]", [b"[NaN, 1]"]),
        (b'[{}, "\xff"]', [b'[{}, "\xff"]']),
        (b"[" * 100_000, [b"[" * 100_000]),
    ],
)
def test_a_sender_may_sign_the_body_or_the_first_element_of_a_batch(
    body: bytes, signable: list[bytes]
) -> None:
    assert list(find_signable(body)) == signable


LARGE = "x" * 300


def make_large_batch(first_field: str = "type") -> list[dict[str, object]]:
    """Return a batch that is parsed in several pieces."""
    return [{first_field: number, "text": LARGE, "more": {"a": [number]}} for number in range(1000)]


def nested_like_the_batch() -> list[dict[str, object]]:
    """Return a batch in which objects follow each other within the elements, too."""
    products = [{"type": number, "text": LARGE} for number in range(100)]
    return [{"type": number, "products": products} for number in range(20)]


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param(make_large_batch(), id="plain"),
        pytest.param(make_large_batch('"},{"\\'), id="with a name that looks like a boundary"),
        pytest.param(nested_like_the_batch(), id="nested"),
        pytest.param([{**event, "text": "😀" * 80} for event in make_large_batch()], id="wide"),
        pytest.param(
            [{**event, "text": '},{"type":' * 30} for event in make_large_batch()], id="bait"
        ),
        pytest.param([None, *make_large_batch()], id="beginning with no object"),
        pytest.param([*make_large_batch(), 7, "text"], id="ending with no object"),
    ],
)
def test_a_large_batch_is_parsed_as_if_at_once(elements: list[object]) -> None:
    assert list(parse_events(compact(elements))) == elements
    indented = b" [\n" + json.dumps(elements, indent=1).encode()[1:]
    assert list(parse_events(indented)) == elements


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1}',
        b' \n{ "a" : 1.0e+3 }\t',
        b"[]",
        b"[\n]",
        b"[1]",
        b' [ {"a":1} ,\n"\xc3\xa9\\ud83d" , [ ] , null,-0.0 ,1e2]\r\n ',
        compact(make_large_batch()),
        compact(nested_like_the_batch()),
        json.dumps(make_large_batch(), indent=1).encode(),
    ],
)
def test_slices_are_the_bytes_of_each_event(body: bytes) -> None:
    payload = parse_events(body)
    slices = list(payload.slices())
    assert [json.loads(raw) for raw in slices] == list(payload)
    # Nothing is left between them but what JSON has there.
    rest = body
    for raw in slices:
        before, found, rest = rest.partition(raw)
        assert found
        assert re.fullmatch(rb"[ \t\n\r]*[\[,]?[ \t\n\r]*", before)
    assert re.fullmatch(rb"[ \t\n\r]*\[?[ \t\n\r]*\]?[ \t\n\r]*", rest)


@pytest.mark.parametrize(
    "body", [b"[1 2]", b"[1,]", b"[", b"[1", b"[,1]", b"[1] 2", b"[\xff]", b"[1,2"]
)
def test_slices_of_what_is_no_json_are_refused(body: bytes) -> None:
    payload = parse_events(body)
    with pytest.raises(MalformedBody):
        list(payload)
    with pytest.raises(MalformedBody):
        list(payload.slices())


@pytest.mark.parametrize("at", [0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    "damage", [b"", b'"', b"}", b"]", b"[", b"\xff", b"},{", b",,", b"NaN", b"]["]
)
def test_a_large_batch_is_malformed_wherever_it_is_damaged(at: float, damage: bytes) -> None:
    body = compact(make_large_batch())
    # At an element's end, where a piece may begin, and in its midst.
    for place in (body.index(b"},{", int(len(body) * at)) + 1, int(len(body) * at)):
        damaged = body[:place] + damage + body[place + (damage == b"") :]
        if is_json(damaged):
            continue
        with pytest.raises(MalformedBody):
            list(parse_events(damaged))


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
