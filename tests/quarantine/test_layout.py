"""JSON for people."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentio_bridge.quarantine.layout import MAX_CHARACTERS, lay_out, make_visible, show
from tests.factories import make_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@pytest.mark.parametrize(
    ("text", "laid_out"),
    [
        ("{}", "{}"),
        ("[ ]", "[]"),
        ("17", "17"),
        ('{"a":1}', '{\n  "a": 1\n}'),
        ('{"a":1,"a":1.0}', '{\n  "a": 1,\n  "a": 1.0\n}'),
        (
            '[[], {}, [1e21, "x, {y}: \\" z"]]',
            '[\n  [],\n  {},\n  [\n    1e21,\n    "x, {y}: \\" z"\n  ]\n]',
        ),
        ('{"a": "\\u0000"}', '{\n  "a": "\\u0000"\n}'),
        ('["é😀"]', '[\n  "é😀"\n]'),
        ('["\u202e"]', '[\n  "\\u202e"\n]'),
        # What is no JSON need not be laid out well, but must not do any harm.
        ("]}", "\n]\n}"),
        ('["', '[\n  "'),
        ("", ""),
    ],
)
def test_a_line_for_each_value(text: str, laid_out: str) -> None:
    assert lay_out(text) == (laid_out, False)


def test_a_realistic_event_looks_as_json_tools_show_it() -> None:
    event = make_event()
    assert lay_out(json.dumps(event)).text == json.dumps(event, indent=2)


@given(JSON, st.booleans())
def test_nothing_but_white_space_changes(value: object, ensure_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    assert lay_out(text).text == make_visible(lay_out(text).text)
    if text.isprintable():
        assert json.loads(lay_out(text).text) == json.loads(text)


@given(st.text())
def test_anything_can_be_shown(text: str) -> None:
    for layout in (lay_out(text), show(text)):
        layout.text.encode()
        assert layout.text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**6,
        "[" * 1_000 + "]" * 1_000 * 1_000,
        "[1," * 10**6,
        '"' + "\\" * 10**6,
        '"' * 10**6,
        "{" + '"a":' * 10**6,
        " " * 10**6,
        "a" * 10**6,
    ],
    ids=lambda text: text[:10],
)
def test_a_large_text_is_cut_and_does_not_take_long(text: str) -> None:
    started = time.process_time()
    layout = lay_out(text)
    assert time.process_time() - started < 2
    assert layout.is_cut
    assert len(layout.text) < 5 * MAX_CHARACTERS
    assert show(text) == (text[:MAX_CHARACTERS], True)


def test_bytes_that_are_no_text() -> None:
    assert show(b"a\xff\0\nb".decode("utf-8", "surrogateescape")).text == "a\\udcff\\x00\nb"
