"""JSON laid out for people to read; pure, for any text, and raises nothing."""

from __future__ import annotations

import re
from typing import NamedTuple

#: How many characters of a text are laid out. Segment takes no event of more than 32 KB:
#: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/.
MAX_CHARACTERS = 50_000

_MAX_LAID_OUT_CHARACTERS = 4 * MAX_CHARACTERS
_MAX_INDENTED_LEVELS = 40

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},:]|[^\s\[\]{},:"]+', re.S)


class Layout(NamedTuple):
    """A text to show; `is_cut` tells that there is more of it."""

    text: str
    is_cut: bool


def lay_out(json_text: str) -> Layout:
    """Return JSON with a line for each value, and nothing else changed.

    It is not parsed: numbers, escapes, names that occur twice and the order are those of the text,
    and how deep it is nested does not matter. It ends after MAX_CHARACTERS, or once four times as
    many have been made of them.
    """
    pieces: list[str] = []
    size = level = 0
    before = ""
    for match in _TOKEN.finditer(json_text[:MAX_CHARACTERS]):
        lexeme = piece = match[0]
        if lexeme in ("}", "]"):
            level = max(level - 1, 0)
            if before not in ("{", "["):
                piece = _break_line(level) + lexeme
        elif before in ("{", "[", ","):
            piece = _break_line(level) + lexeme
        elif lexeme == ":":
            piece = ": "
        if lexeme in ("{", "["):
            level += 1
        pieces.append(piece)
        before = lexeme
        size += len(piece)
        if size > _MAX_LAID_OUT_CHARACTERS:
            break
    text = "".join(pieces)
    is_cut = len(json_text) > MAX_CHARACTERS or size > _MAX_LAID_OUT_CHARACTERS
    return Layout(make_visible(text), is_cut)


def show(text: str) -> Layout:
    """Return a text that may be anything as it is, but for what cannot be seen.

    It ends after MAX_CHARACTERS.
    """
    return Layout(make_visible(text[:MAX_CHARACTERS]), len(text) > MAX_CHARACTERS)


def make_visible(text: str) -> str:
    """Return `text` with escapes in place of what cannot be seen, or changes how the rest is seen.

    Such as control characters, lone surrogates, and what reverses the direction of writing. An
    escape has up to ten characters.
    """
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _break_line(level: int) -> str:
    return "\n" + "  " * min(level, _MAX_INDENTED_LEVELS)
