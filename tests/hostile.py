"""Hostile input: the one corpus that every entry point of the bridge is run against.

What stands here is what comes over the wire, as JSON text or as bytes, by a short name for the
messages of the tests. What a fuzzer finds goes in here, so that it is tried for ever after.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from django.http.response import HttpResponse, HttpResponseBase
from django.test import Client
from eventtracking.tracker import get_tracker

from segmentio_bridge.outcomes import Outcome, Status
from segmentio_bridge.payload import parse_events
from segmentio_bridge.pipeline import process
from segmentio_bridge.signals import events_processed
from tests.demo.server import SECRET
from tests.factories import ParsedPayload, make_event, make_properties

#: A path into an event, by keys; the empty path is the event itself.
Field = tuple[str, ...]

PATH = "/segmentio/event"
QUERY = f"key={quote(SECRET)}"

#: What the endpoint may answer.
STATUSES = frozenset({200, 400, 401, 405, 413, 415, 503})


def _texts(**values: object) -> dict[str, str]:
    """Return JSON texts of Python values; strings are escaped to ASCII."""
    return {name: json.dumps(value) for name, value in values.items()}


def objects(levels: int) -> str:
    """Return an object that is nested `levels` deep."""
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


def arrays(levels: int) -> str:
    """Return an array that is nested `levels` deep."""
    return "[" * levels + "]" * levels


_NUMBERS = {
    f"number {text if len(text) < 25 else f'of {len(text)} digits'}": text
    for text in (
        *("0", "-0", "0.0", "-0.0", "0e0", "1", "-1", "1.0", "1e0", "1.5", "2", "404", "1e-999"),
        *("1E+2", "5e-324", "1e308", "-1e308", "0.1", "1e21", "1E-7", "123456789.123456789"),
        *(str(2**31 - 1), str(2**31), str(-(2**31) - 1), str(2**53 + 1), str(2**63 - 1)),
        *(str(2**63), str(-(2**63) - 1), str(2**64), "1772442927", "1772442927352"),
        *("9" * digits for digits in (10, 20, 39, 40, 41, 100, 300, 301, 308)),
        "0." + "3" * 5_000,
    )
}

_STRINGS = _texts(
    empty="",
    space=" ",
    tab="\t",
    digit_zero="0",
    digit_one="1",
    minus_zero="-0",
    minus_one="-1",
    plus_one="+1",
    leading_zero="01",
    space_before_one=" 1",
    space_after_one="1 ",
    line_end_after_one="1\n",
    nul_after_one="1\0",
    underscore_in_number="1_0",
    point_in_number="1.0",
    exponent_in_number="1e0",
    hexadecimal="0x1",
    arabic_indic_one="\u0661",
    full_width_one="\uff11",
    superscript_two="\u00b2",
    one_half="\u00bd",
    roman_four="\u2163",
    too_large_for_32_bits=str(2**31),
    too_large_for_64_bits=str(2**63),
    digits_40="9" * 40,
    digits_41="9" * 41,
    digits_5000="9" * 5_000,
    a_null="null",
    a_none="None",
    a_nan="NaN",
    an_infinity="-Infinity",
    a_true="true",
    an_undefined="undefined",
    long="x" * 20_000,
    long_key_of_text="x" * 13,
    long_non_ascii="\u00e9" * 2_000,
    long_emoji="\U0001f600" * 1_000,
    long_nul="\0" * 1_000,
    long_quotes='"\\' * 1_000,
    nul="\0",
    nul_within="edx\0video",
    lone_high_surrogate="\ud800",
    lone_low_surrogate="\udfff",
    surrogate_within="a\ud800b",
    surrogates_reversed="\udc00\ud800",
    controls="".join(map(chr, range(32))),
    delete_and_c1="".join(map(chr, range(127, 160))),
    line_ends="a\nb\rc\r\nd\x0be\x0cf\x1cg\x85h\u2028i\u2029j",
    forged_line="x\r\nERROR segmentio_bridge.views: Accepted a delivery from 127.0.0.1.",
    forged_json='x", "username": "admin", "x": "',
    escape_sequences="\x1b[2J\x1b[31mred\x1b]0;title\x07",
    right_to_left="\u202efdp.exe\u202c \u05d0\u0644",
    zero_width="\u200badmin\u200d\ufeff",
    byte_order_mark="\ufeff1",
    noncharacters="\ufffe\uffff\U0010ffff",
    combining="e" + "\u0301" * 1_000,
    emoji="\U0001f469\u200d\U0001f680 \U0001f1f5\U0001f1f9",
    grows_when_lowered="\u0130" * 100,
    sharp_s="\u00df\u017f",
    percent_format="%s%n%d%(levelname)s%%",
    brace_format="{0}{x.__class__.__mro__}{{}}",
    lookup="${jndi:ldap://127.0.0.1/a}",
    commands="$(reboot)`reboot`; reboot | reboot\nreboot",
    path="../../../../etc/passwd\0.png",
    windows_path="C:\\Windows\\win.ini",
    sql="1'; DROP TABLE auth_user; --",
    sql_or="1 OR 1=1",
    script="</script><script>alert(1)</script>",
    template="{{ settings.SECRET_KEY }}{% debug %}",
    spreadsheet="=cmd|' /C calc'!A0",
    url="javascript:alert(1)",
    pickle="\x80\x04cposix\nsystem\n",
    proto="__proto__",
    dunder="__class__",
    json_in_string='{"userId": 1}',
    base64="AAAA====",
    uuid="12345678123456781234567812345678",
    uuid_with_dashes="12345678-1234-5678-1234-567812345678",
    uuid_in_braces="{12345678-1234-5678-1234-567812345678}",
    a_secret=SECRET,
    forum_label="Forum: View Thread",
    course="course-v1:X+Y+Z",
    course_with_line_end="course-v1:X+Y+Z\n",
    course_with_nul="course-v1:X\0+Y+Z",
    course_ccx="ccx-v1:X+Y+Z+ccx@" + "9" * 5_000,
    course_with_version="course-v1:X+Y+Z+branch@b+version@519665f6223ebd6980884f2b",
    course_library="library-v1:X+Y",
    course_deprecated="X/Y/Z",
    course_location="i4x://X/Y/course/Z",
    course_unknown="course-v2:X",
    course_colon=":",
    course_long="course-v1:" + "X" * 10_000 + "+Y+Z",
    course_non_ascii="course-v1:\u00c9cole+\u0661+\u00b2",
)

#: Texts that somebody might take for a moment.
MOMENTS: dict[str, str] = {
    f"moment {number}": json.dumps(text)
    for number, text in enumerate(
        (
            "2026-03-02",
            "2026-03-02T09:15:27",
            "2026-03-02T09:15:27.352Z",
            "2026-03-02T09:15:27.123456789Z",
            "2026-03-02T09:15:27." + "1" * 1_000 + "Z",
            "2026-03-02T09:15:27." + "1" * 10_000,
            "2026-03-02T09:15:27,352Z",
            "2026-03-02T09:15:27.Z",
            "2026-03-02T09:15:27z",
            "2026-03-02t09:15:27Z",
            "2026-03-02 09:15:27",
            "20260302T091527Z",
            "2026-W10-1",
            "2026-061",
            "2026-03-02T09:15:27+14:00",
            "2026-03-02T09:15:27-1400",
            "2026-03-02T09:15:27+23:59",
            "2026-03-02T09:15:27+24:00",
            "2026-03-02T09:15:27-99:99",
            "2026-03-02T09:15:27+99999999999999999999",
            "2026-03-02T09:15:27+\u0660\u0660:\u0660\u0660",
            "2026-03-02T24:00:00Z",
            "2026-03-02T23:59:60Z",
            "2026-03-02T09:15:61Z",
            "2026-02-29T00:00:00Z",
            "2026-02-30",
            "2026-13-01",
            "2026-00-00",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "9999-12-31T23:59:59.999999999Z",
            "10000-01-01T00:00:00Z",
            "-2026-03-02T09:15:27Z",
            "\u0662\u0660\u0662\u0666-\u0660\u0663-\u0660\u0662T\u0660\u0669:\u0661\u0665:\u0662\u0667Z",
            "\uff12\uff10\uff12\uff16-03-02",
            "2026-03-02T09:15:27Z\n",
            "\n2026-03-02T09:15:27Z",
            "2026-03-02T09:15:27Z\0",
            "2026-03\u201302",
            "1772442927",
            "1772442927352",
            "1772442927.352",
            "99999999999999999999",
            "1e5",
            "1e400",
            "nan",
            "-nan",
            "inf",
            "2026-03-nan",
            "now",
            "today",
            "yesterday",
            "Monday",
            "March",
            "Mon, 02 Mar 2026 09:15:27 GMT",
            "Mon, 02 Mar 2026 09:15:27 +0100",
            "Mon Mar  2 09:15:27 2026",
            "2 March 2026, 9.15 am",
            "10:00",
            "10 AM",
            "10h15m27s",
            "12/13/14",
            "31/02/2026",
            "1/1/1",
            "1.1.1.1",
            "2026-03-02 09:15:27 EST",
            "2026-03-02 09:15:27 UTC+3",
            "2026-03-02 09:15:27 GMT-99",
            "2026-03-02 09:15:27 +0100 (CET)",
            "Z",
            "T",
            ".",
            ":",
            "-",
            "+",
            "AD",
            "1" * 128,
            "1." * 64,
            ":" * 128,
            "a" * 128,
            "." * 129,
            "Z" * 10_000,
            "2026-03-02T09:15:27Z" + " " * 108,
            "2026-03-02T09:15:27Z" + " " * 109,
            "99999999999999999999:99999999999999999999",
        )
    )
}

_CONTAINERS = {
    "empty array": "[]",
    "empty object": "{}",
    "array of null": "[null]",
    "array of empties": '[[],{},"",0,false,null]',
    "array of one": "[1]",
    "array of a string": '["edx.video.loaded"]',
    "long array": json.dumps([0] * 1_000),
    "long array of arrays": json.dumps([[]] * 1_000),
    "wide object": json.dumps({str(number): number for number in range(1_000)}),
    "object with an empty key": '{"":{"":""}}',
    "object with a NUL key": '{"\\u0000":1}',
    "object with a surrogate key": '{"\\ud800":1}',
    "object with a forged key": '{"\\r\\nERROR forged":1}',
    "object with a long key": json.dumps({"k" * 10_000: 1}),
    "object with a proto": '{"__proto__":{"isAdmin":true},"constructor":{"prototype":{}}}',
    "object with dunders": '{"__class__":{"__init__":{"__globals__":1}},"__dict__":1}',
    "object with a query": '{"$ne":null,"$where":"sleep(1)"}',
    "object with duplicates": '{"name":"a","name":"b","data":1,"data":{}}',
    "object with a name": '{"name":"analytics-kotlin"}',
    "object with a null name": '{"name":null}',
    "object with a list name": '{"name":["analytics-kotlin"]}',
    "object with a user": '{"id":1,"user_id":1,"userId":1,"username":"root"}',
    "object with a course": '{"course_id":["course-v1:X+Y+Z"],"app_name":{}}',
    "object with an event's context": '{"library":{"name":"analytics-kotlin"},"app":[1]}',
    "object like properties": '{"name":"n","data":{},"context":{"user_id":9,"username":"root"}}',
    "objects in arrays": "[{}," * 40 + "1" + "]" * 40,
    **{f"objects {levels} deep": objects(levels) for levels in (90, 98, 99, 100, 101, 500)},
    **{f"arrays {levels} deep": arrays(levels) for levels in (90, 98, 99, 100, 101, 500)},
}

#: JSON texts, each valid, to stand in for any field of an event.
VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "false": "false",
    **_NUMBERS,
    **{name.replace("_", " "): text for name, text in _STRINGS.items()},
    **_CONTAINERS,
    # Not escaped, as JavaScript writes them.
    "raw emoji": '"\U0001f600"',
    "raw line separators": '"\u2028\u2029"',
    "raw delete": '"\x7f"',
    "raw byte order mark": '"\ufeff"',
}


def _paths(value: object, path: Field = ()) -> Iterator[Field]:
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(child, (*path, key))


#: Every field of a realistic event, and those that only some clients send.
FIELDS: tuple[Field, ...] = (
    *_paths(make_event()),
    ("context", "client"),
    ("context", "application"),
    ("properties", "course_id"),
    *(
        ("properties", "context", key)
        for key in (
            *("agent", "application", "client", "event_source", "ip", "label", "org_id"),
            *("received_at", "timestamp", "user_id", "username"),
        )
    ),
    ("__proto__",),
    ("",),
)


def render(field: Field, text: str) -> str:
    """Return the text of a realistic event that has the JSON `text` at `field`."""
    return render_fields({field: text})


def render_fields(texts: Mapping[Field, str | None]) -> str:
    """Return the text of a realistic event that has these JSON texts at these fields.

    None stands for a field that is not there. Of two fields of which one is within the other, the
    one that is named later wins.
    """
    # The event as the one field of an object, so that it is a field like the others.
    root: dict[str, Any] = {"event": make_event(messageId="a hostile one")}
    places: dict[str, str] = {}
    for field, text in texts.items():
        *parents, last = ("event", *field)
        node = root
        for key in parents:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[last] = f"hostile value {len(places)} stands here"
        if text is None:
            del node[last]
        else:
            places[json.dumps(node[last])] = text
    rendered = json.dumps(root.get("event", {}))
    for place, text in places.items():
        rendered = rendered.replace(place, text)
    return rendered


def _event_text() -> str:
    # A field of two, three and four bytes a character, so that a cut can fall within one.
    return json.dumps(make_event(event="é€😀"), ensure_ascii=False)


_EVENT = _event_text()

#: Bodies that are no JSON, or none that the endpoint takes: each is answered 400.
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "white space": b" \t\r\n" * 100,
    "other white space": b"\x0b\x0c\xc2\xa0",
    "NUL": b"\0",
    "NULs": b"\0" * 1_000,
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "minus": b"-",
    "a string": b'"' + b"x" * 100_000 + b'"',
    "an event in a string": json.dumps(_EVENT).encode(),
    "unquoted": b"hello",
    "form": b"userId=1&type=track",
    "XML": b"<?xml version='1.0'?><event/>",
    "pickle": b"\x80\x04}\x94.",
    "gzip": bytes.fromhex("1f8b0800000000000003abae050043bfa6a302000000"),
    "brace": b"{",
    "bracket": b"[",
    "closed twice": b"{}}",
    "closed wrongly": b"[}",
    "two objects": b"{}{}",
    "two lines": b"{}\n{}",
    "junk behind": b"{} x",
    "NUL behind": b"{}\0",
    "comma behind": b"{},",
    "trailing comma in array": b"[{},]",
    "trailing comma in object": b'{"a":1,}',
    "leading comma": b"[,{}]",
    "missing comma": b"[{} {}]",
    "missing colon": b'{"a" 1}',
    "missing value": b'{"a":}',
    "missing key": b"{:1}",
    "number as a key": b"{1:1}",
    "single quotes": b"{'type': 'track'}",
    "line comment": b'{"a":1} // comment',
    "block comment": b'{/* comment */"a":1}',
    "hash comment": b"# comment\n{}",
    "Python literals": b'{"a":None,"b":True}',
    "undefined": b'{"a":undefined}',
    "a call": b'{"a":alert(1)}',
    "JSONP": b"callback({})",
    "XSSI guard": b")]}'\n{}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'[{"a":-Infinity}]',
    "nan": b'{"a":nan}',
    "overflowing float": b'{"a":1e999}',
    "overflowing negative float": b'{"a":-1e999}',
    "overflowing point": b'{"a":' + b"9" * 400 + b".5}",
    "huge exponent": b'{"a":1e' + b"9" * 10_000 + b"}",
    "integer of 310 digits": b'{"a":1' + b"0" * 309 + b"}",
    "integer of 10,000 digits": b'{"a":' + b"9" * 10_000 + b"}",
    "negative integer of 10,000 digits": b'[{"a":-' + b"9" * 10_000 + b"}]",
    "leading zero": b'{"a":01}',
    "leading plus": b'{"a":+1}',
    "bare point": b'{"a":.5}',
    "trailing point": b'{"a":1.}',
    "bare exponent": b'{"a":1e}',
    "hexadecimal number": b'{"a":0x10}',
    "underscore in number": b'{"a":1_0}',
    "non-ASCII digits": '{"a":\u0661}'.encode(),
    "raw line end in string": b'{"a":"\n"}',
    "raw NUL in string": b'{"a":"\0"}',
    "raw control character in key": b'{"\x01":1}',
    "unknown escape": b'{"a":"\\x41"}',
    "cut escape": b'{"a":"\\u12"}',
    "underscore in escape": b'{"a":"\\u0_41"}',
    "backslash at the end": b'{"a":"\\',
    "unterminated string": b'{"a":"' + b"x" * 100_000,
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-16 without a mark": _EVENT.encode("utf-16-le"),
    "UTF-32": "{}".encode("utf-32"),
    "UTF-7": b"{+ACI-a+ACI-:1}",
    "Latin-1": '{"a":"é"}'.encode("latin-1"),
    "overlong NUL": b'{"a":"\xc0\x80"}',
    "overlong quote": b'{"a":\xc0\xa2}',
    "encoded surrogate": b'{"a":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
    "stray continuation byte": b'{"a":"\x80"}',
    "cut character": b'{"a":"\xf0\x9f\x98"}',
    "a bad byte behind good events": b"[" + _EVENT.encode() + b',{"a":"\xff"}]',
    "a bad event behind good ones": b"[" + _EVENT.encode() + b",{]",
    "arrays 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "arrays 100,000 deep, open": b"[" * 100_000,
    "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "objects 100,000 deep, open": b'[{"a":' * 100_000,
    "an event 100,000 deep": render(
        ("properties", "data"), arrays(100_000).replace("]", "1]", 1)
    ).encode(),
}

#: Bodies that are strange but JSON, with the number of raw events in them: answered 200.
STRANGE: dict[str, tuple[bytes, int]] = {
    "empty array": (b"[]", 0),
    "empty array among white space": (b" \t\r\n[ \t\r\n] \t\r\n", 0),
    "empty object": (b"{}", 1),
    "white space": (b" " * 100_000 + b"{}" + b"\n" * 100_000, 1),
    "array of scalars": (b'[null,true,false,0,-0,1.5,"",{},[]]', 9),
    "array of arrays": (b"[[],[[]],[{}]]", 3),
    "array of strings": (b'["\\ud800","\\u0000"]', 2),
    "event within an array": (b"[[" + _EVENT.encode() + b"]]", 1),
    "duplicate keys": (b'{"type":"track","type":["identify"],"userId":1,"userId":"404"}', 1),
    "keys of every kind": (b'{"":1," ":2,"\\u0000":3,"\\ud800":4,"__proto__":{},"a\\r\\nb":5}', 1),
    "10,000 nulls": (b"[" + b"null," * 9_999 + b"null]", 10_000),
    "10,000 objects": (b"[" + b"{}," * 9_999 + b"{}]", 10_000),
    "escapes of ASCII": (b'{"\\u0074ype":"\\u0074rack"}', 1),
    "integer of 309 digits": (b'{"a":1' + b"0" * 308 + b"}", 1),
    "float of 100,000 digits": (b'{"a":0.' + b"1" * 100_000 + b"}", 1),
    "numbers that underflow": (b'{"a":1e-999,"b":-1e-99999999999999999999}', 1),
}


def truncations(body: bytes) -> Iterator[bytes]:
    """Yield every beginning of `body` that is shorter than it."""
    for length in range(len(body)):
        yield body[:length]


def mutations(body: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """Yield `count` variants of `body` with some bytes changed, put in, taken out or doubled."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(mutant))
            end = at + rng.randint(1, 8)
            match rng.randrange(4):
                case 0:
                    mutant[at] = rng.randrange(256)
                case 1:
                    mutant[at:at] = rng.choice(b'{}[]",:0-e\\\0\xff ').to_bytes()
                case 2:
                    del mutant[at : end if len(mutant) > 16 else at]
                case _:
                    mutant[at:at] = mutant[at:end]
        yield bytes(mutant)


#: Query strings that do not carry the secret, as a server hands them over.
QUERIES: dict[str, str] = {
    "none": "",
    "no value": "key",
    "empty": "key=",
    "wrong": "key=wrong",
    "space": "key=%20",
    "NUL": "key=%00",
    "secret and NUL": f"key={SECRET}%00",
    "secret and space": f"key={SECRET}%20",
    "secret and line end": f"key={SECRET}%0d%0a",
    "secret cut": f"key={SECRET[:-1]}",
    "secret in capitals": f"key={SECRET.upper()}",
    "secret encoded twice": f"key={SECRET}".replace(" ", "%2520"),
    "secret as another parameter": f"Key={SECRET}",
    "secret as an array": f"key[]={SECRET}",
    "secret repeated": f"key={SECRET}&key={SECRET}",
    "secret repeated among others": f"key={SECRET}&a=1&key=",
    "secret behind a semicolon": f"a=1;key={SECRET}",
    "secret in a fragment": f"#key={SECRET}",
    "secret as a list": f"key=['{SECRET}']",
    "non-ASCII": "key=%C3%A9",
    "non-ASCII, not UTF-8": "key=%FF%FE",
    "non-ASCII, raw": "key=\xe9\xff",
    "not even Latin-1": "key=\u20ac\U0001f600",
    "lone surrogate": "key=\ud800",
    "lone surrogate, encoded": "key=%ED%A0%80",
    "full-width": "key=" + "".join(chr(ord(c) + 0xFEE0) for c in "secret"),
    "junk": "key=%&%%%=%zz&=&==&&key&;",
    "only separators": "&" * 10_000,
    "plus signs": "key=" + "+" * 1_000,
    "overlong": "key=" + "x" * 1_000_000,
    "2,000 parameters": "&".join(f"p{number}=1" for number in range(2_000)),
    "2,000 keys": "&".join(["key=wrong"] * 2_000),
    "2,000 times the secret": "&".join([f"key={SECRET}"] * 2_000),
    "controls": "key=" + "".join(f"%{number:02x}" for number in range(32)),
    "format": "key=%25s%25n{0}",
    "forged line": "key=x%0d%0aERROR%20segmentio_bridge.views:%20forged",
}

#: Values of the header Authorization that do not carry the secret.
AUTHORIZATIONS: dict[str, str] = {
    "empty": "",
    "space": " ",
    "scheme alone": "Bearer",
    "scheme and space": "Bearer ",
    "scheme and tab": "Bearer\t",
    "wrong": "Bearer wrong",
    "three words": "bearer x y",
    "secret without a scheme": SECRET,
    "secret in another scheme": f"Token {SECRET}",
    "secret behind a tab": f"Bearer\t{SECRET}",
    "secret behind a comma": f"Bearer x, Bearer {SECRET}",
    "secret twice": f"Bearer {SECRET} {SECRET}",
    "secret, repeated header": f"Bearer {SECRET},Bearer {SECRET}",
    "secret in quotes": f'Bearer "{SECRET}"',
    "secret and NUL": f"Bearer {SECRET}\0",
    "secret in capitals": f"Bearer {SECRET.upper()}",
    "secret cut": f"Bearer {SECRET[:-1]}",
    "basic": "Basic YTpi",
    "basic, no base64": "Basic \xff\xfe",
    "digest": 'Digest username="a", realm="\\"',
    "colon": "Bearer: " + SECRET,
    "non-ASCII": "Bearer \xe9",
    "non-ASCII scheme": "B\xe9arer x",
    "not even Latin-1": "Bearer \u20ac",
    "lone surrogate": "Bearer \ud800",
    "lone surrogate as the scheme": "\udfff x",
    "line end": "Bearer x\r\nX-Forged: 1",
    "overlong": "Bearer " + "x" * 1_000_000,
    "overlong scheme": "x" * 1_000_000,
    "many words": "Bearer" + " x" * 100_000,
    "dotted capital I": "Bearer \u0130",
}

#: Values of the header X-Signature that are no signature of anything.
SIGNATURES: dict[str, str] = {
    "empty": "",
    "space": " ",
    "short": "0",
    "zeros": "0" * 40,
    "upper case": "ABCDEF" * 6 + "ABCD",
    "too long": "0" * 41,
    "overlong": "0" * 1_000_000,
    "no hexadecimal": "z" * 40,
    "prefix": "sha1=" + "0" * 40,
    "base64": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
    "list": "0" * 40 + ", " + "1" * 40,
    "secret": SECRET,
    "NUL": "\0" * 40,
    "non-ASCII": "\xe9" * 40,
    "not even Latin-1": "\u20ac" * 40,
    "non-ASCII digits": "\u0661" * 40,
    "lone surrogate": "\ud800" * 40,
    "line end": "0" * 40 + "\r\n",
    "null": "null",
}

#: Values of the header Content-Type, with whether they name JSON.
CONTENT_TYPES: dict[str, tuple[str, bool]] = {
    "capitals": ("APPLICATION/JSON", True),
    "white space": (" application/json ; charset=utf-8", True),
    "empty parameters": ("application/json;;;=;a=;=b", True),
    "open quote": ('application/json; charset="', True),
    "line end": ("application/json; a\r\n b=1", True),
    **{
        f"charset {charset}": (f"application/json; charset={charset}", True)
        for charset in (
            *("utf-8", "UTF-16", "utf-7", "latin-1", "hex", "zlib", "bz2", "base64", "uu", "rot13"),
            *("quopri", "idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"),
            *("charmap", "mbcs", "oem", "unknown", "..", "os.path", "\xe9", "%s{0}", "x" * 5_000),
        )
    },
    "encoded charset": ("application/json; charset*=utf-8''%ff", True),
    "many parameters": ("application/json" + "; a=b" * 500, True),
    "none": ("", False),
    "a word": ("json", False),
    "slash": ("/", False),
    "subtype alone": ("/json", False),
    "text": ("text/json", False),
    "plain": ("text/plain", False),
    "suffix": ("application/vnd.api+json", False),
    "longer": ("application/json5", False),
    "lines": ("application/x-ndjson", False),
    "form": ("application/x-www-form-urlencoded", False),
    "multipart": ("multipart/form-data; boundary=x", False),
    "multipart without a boundary": ("multipart/form-data", False),
    "list": ("application/json, application/json", False),
    "comma": ("text/plain,application/json", False),
    "any": ("*/*", False),
    "non-ASCII": ("application/jsón", False),
    "NUL": ("application/json\0", False),
    "surrogate": ("application/json\ud800", False),
    "long": ("x" * 9_000, False),
}

#: Values of the header Content-Encoding that say that the body is compressed, or claim something.
CONTENT_ENCODINGS: dict[str, str] = {
    "gzip": "gzip",
    "deflate": "deflate",
    "br": "br",
    "list": "identity, gzip",
    "list of nothing": ",",
    "unknown": "x",
    "non-ASCII": "\xe9",
    "surrogate": "\ud800",
    "NUL": "identity\0",
    "long": "x" * 100_000,
}


#: Values of the header Content-Type, with query strings, that Django fails on before it looks for
#: a view, so that no app can do anything about them: the server answers with an error of its own.
UNREADABLE: dict[str, tuple[str, str]] = {
    "unknown encoding": ("application/json; a*=unknown''b", QUERY),
    "unknown encoding of bytes": ("application/json; a*=unknown''b%41r", QUERY),
    "encoding that is none of text": ("application/json; charset*=hex''b%41r", QUERY),
    "encoding that refuses": ("application/json; charset*=idna''b%ff", QUERY),
    "charset with a NUL": ("application/json; charset*=utf-8''%00", QUERY),
    "encoding that makes NUL": ("application/json; charset*=utf-7''+AAA", QUERY),
    "number of 5,000 digits": ("application/json; a*" + "9" * 5_000 + "=b", QUERY),
    "charset that is none of text": ("application/json; charset=hex", QUERY),
    "20,000 characters": ("application/json; a=" + "b" * 20_000, QUERY),
    "charset and 1,500 parameters": ("application/json; charset=utf-8", "&a" * 1_500),
}


def fill(beginning: bytes, element: bytes, end: bytes, size: int) -> bytes:
    """Return a body of at most `size` bytes: `element` as often as it fits, between the others."""
    return beginning + element * ((size - len(beginning) - len(end)) // len(element)) + end


def _short_event(**fields: str) -> str:
    """Return about the shortest event that reaches the tracker; `fields` are JSON texts."""
    texts = {
        "course_id": '"course-v1:X+Y+Z"',
        "data": "{}",
        "receivedAt": '"2026-03-02T09:15:29Z"',
        "timestamp": '"2026-03-02T09:15:27Z"',
        "userId": "1",
        **fields,
    }
    return (
        '{"context":{"library":{"name":"analytics-ios"}},"type":"track",'
        f'"userId":{texts["userId"]},"receivedAt":{texts["receivedAt"]},'
        f'"timestamp":{texts["timestamp"]},"properties":{{"name":"n",'
        f'"course_id":{texts["course_id"]},"data":{texts["data"]}}}}}'
    )


def _long_event(size: int, field: str, beginning: str, filling: str, end: str) -> bytes:
    """Return an event of at most `size` bytes that has `filling` over and over in `field`."""
    before, _, after = _short_event(**{field: "\0"}).partition("\0")
    return fill((before + beginning).encode(), filling.encode(), (end + after).encode(), size)


def _short_events(size: int, **fields: str) -> bytes:
    """Return a batch of at most `size` bytes of short events."""
    event = _short_event(**fields).encode()
    return fill(b"[" + event, b"," + event, b"]", size)


#: Bodies of one long value, by the size they are given.
LONG_VALUES: dict[str, Callable[[int], bytes]] = {
    "opening brackets": lambda size: b"[" * size,
    "opening braces": lambda size: fill(b"", b'{"":', b"", size),
    "one integer": lambda size: fill(b"[", b"9", b"]", size),
    "one float": lambda size: fill(b"[0.", b"7", b"]", size),
    "one string": lambda size: fill(b'{"a":"', b"x", b'"}', size),
    "one string with an emoji": lambda size: fill(b'{"a":"\xf0\x9f\x98\x80', b"x", b'"}', size),
    "escapes": lambda size: fill(b'{"a":"', b"\\u0001", b'"}', size),
    "one key": lambda size: fill(b'{"', b"k", b'":0}', size),
    "a string in an event": lambda size: _long_event(size, "data", '{"a":"', "x", '"}'),
    "a moment": lambda size: _long_event(size, "timestamp", '"2026-03-02T09:15:27.', "1", '"'),
    "a text for a moment": lambda size: _long_event(size, "timestamp", '"2026-03-02 ', " ", '"'),
    "a course id": lambda size: _long_event(size, "course_id", '"course-v1:X+Y+', "Z", '"'),
    "a user id": lambda size: _long_event(size, "userId", '"1', "1", '"'),
}

#: As long as a moment may be, for dateutil to read character by character.
_SLOWEST_MOMENT = json.dumps("2026-03-02 09:15:27" + " " * 109)

#: Bodies of many values, by the size they are given.
MANY_VALUES: dict[str, Callable[[int], bytes]] = {
    "integers of 308 digits": lambda size: fill(b"[0", b"," + b"9" * 308, b"]", size),
    "numbers": lambda size: fill(b"[0", b",0", b"]", size),
    "empty arrays": lambda size: fill(b"[[]", b",[]", b"]", size),
    "empty objects": lambda size: fill(b"[{}", b",{}", b"]", size),
    "numbers in an event": lambda size: _long_event(size, "data", '{"a":[0', ",0", "]}"),
    "empty objects in an event": lambda size: _long_event(size, "data", '{"a":[{}', ",{}", "]}"),
    "numbers for a course id": lambda size: _long_event(size, "course_id", "[0", ",0", "]"),
    "short events": _short_events,
    "moments in words": lambda size: _short_events(
        size,
        timestamp='"Mon, 02 Mar 2026 09:15:27 +0100"',
        receivedAt='"2 March 2026, 9.15 am"',
    ),
    "the slowest moments": lambda size: _short_events(
        size, timestamp=_SLOWEST_MOMENT, receivedAt=_SLOWEST_MOMENT
    ),
}


class Answer(NamedTuple):
    """What became of a delivery; `emitted` holds name, data and context of each logged event."""

    status: int
    outcomes: list[Outcome]
    emitted: list[tuple[Any, Any, Any]]


class Endpoint:
    """The webhook of the tests' site; asserts what must hold whatever is sent to it.

    `watch` makes one.
    """

    def __init__(
        self, tracking_log: list[dict[str, Any]], app_log: list[logging.LogRecord]
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._client = Client(raise_request_exception=True, enforce_csrf_checks=True)
        self._tracking_log = tracking_log
        self._app_log = app_log

    def keep_outcomes(self, outcomes: list[Outcome], **kwargs: Any) -> None:
        """Receive the signal that is sent for a delivery."""
        self.outcomes.extend(outcomes)

    def send(self, body: bytes, environ: dict[str, Any]) -> HttpResponseBase:
        """Make the request, and raise whatever Django would make a page for errors of."""
        return self._client.generic("POST", PATH, body, **environ)

    def post(
        self,
        body: bytes,
        *,
        query: str = QUERY,
        content_type: str = "application/json",
        **environ: str,
    ) -> Answer:
        """Post `body` with the key, or with another query string; `environ` is as in PEP 3333."""
        self.outcomes.clear()
        self._tracking_log.clear()
        self._app_log.clear()
        response = self.send(body, {"QUERY_STRING": query, "CONTENT_TYPE": content_type, **environ})
        assert response.status_code in STATUSES
        assert isinstance(response, HttpResponse)
        assert response.content == (
            b'{"error": "Invalid JSON"}' if response.status_code == 400 else b""
        )
        assert not [record for record in self._app_log if record.levelno >= logging.ERROR]
        emitted = [(event["name"], event["data"], event["context"]) for event in self._tracking_log]
        statuses = [outcome.status for outcome in self.outcomes]
        assert Status.FAILED not in statuses
        assert statuses.count(Status.EMITTED) == len(emitted)
        assert get_tracker().resolve_context() == {}
        return Answer(response.status_code, self.outcomes.copy(), emitted)

    def deliver(self, body: bytes) -> Answer:
        """Post `body` with the key: it is taken, or it is not JSON."""
        answer = self.post(body)
        assert answer.status in (200, 400)
        return answer

    def deliver_elements(self, texts: Sequence[str]) -> None:
        """Deliver JSON texts each alone, then all amid a batch: the same becomes of them."""
        alone = [self.deliver(as_delivery(text)) for text in texts]
        amid_a_batch = self.deliver_among_neighbours(texts)
        assert amid_a_batch.outcomes == [outcome for one in alone for outcome in one.outcomes]
        assert amid_a_batch.emitted == [event for one in alone for event in one.emitted]

    def deliver_among_neighbours(self, texts: Sequence[str]) -> Answer:
        """Deliver JSON texts as one batch with good events before, between and behind them.

        The good events are emitted as if each were alone, and nothing in the raw events is changed.
        Returns what became of the texts.
        """
        middle = len(texts) // 2
        before, between, behind = (json.dumps(neighbour) for neighbour in _NEIGHBOURS)
        body = as_batch([before, *texts[:middle], between, *texts[middle:], behind])
        alone = [self.deliver(text.encode()) for text in (before, between, behind)]
        status, outcomes, emitted = self.deliver(body)
        assert status == 200
        assert process_unchanged(body) == outcomes
        for answer in alone:
            outcomes.remove(answer.outcomes[0])
            emitted.remove(answer.emitted[0])
        assert len(outcomes) == len(texts)
        return Answer(status, outcomes, emitted)


_NEIGHBOURS = [
    make_event(messageId=name, properties=make_properties(name=name, data={name: name}))
    for name in ("first neighbour", "second neighbour", "third neighbour")
]


def as_batch(texts: Sequence[str]) -> bytes:
    """Return the body of a batch whose elements are the JSON texts."""
    return f"[{','.join(texts)}]".encode()


def as_delivery(text: str) -> bytes:
    """Return the body of a delivery of one event, which only an object can be without a batch."""
    return text.encode() if text.startswith("{") else as_batch([text])


def process_unchanged(body: bytes) -> list[Outcome]:
    """Process the raw events of `body`, and assert that nothing in them is changed by that."""
    raw_events = list(parse_events(body))
    # By their representation, which unlike equality tells True from 1.0 from 1.
    before = repr(raw_events)
    outcomes = process(ParsedPayload(raw_events)).outcomes
    assert repr(raw_events) == before
    return outcomes


@contextmanager
def watch(
    tracking_log: list[dict[str, Any]],
    app_log: list[logging.LogRecord],
    kind: type[Endpoint] = Endpoint,
) -> Iterator[Endpoint]:
    """Give the endpoint, for a while in which no event is too large for the tracking log.

    `tracking_log` and `app_log` are what the events in the tracking log and the records of the
    package's loggers are appended to. The user with the primary key 1 has to exist.
    """
    endpoint = kind(tracking_log, app_log)
    logger_backend = get_tracker().backends["tracking_logs"].backends["logger"]
    max_event_size = logger_backend.max_event_size
    logger_backend.max_event_size = None
    events_processed.connect(endpoint.keep_outcomes)
    try:
        yield endpoint
    finally:
        events_processed.disconnect(endpoint.keep_outcomes)
        logger_backend.max_event_size = max_event_size
