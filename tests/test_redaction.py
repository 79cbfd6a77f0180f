"""What a log shows of hostile values and of errors, through the formatters of `logging`."""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segmentio_bridge.redaction import WithheldError, printable, withheld

MARK = "hunter2"


def make_logger(stream: io.StringIO) -> logging.Logger:
    """Return a logger as sites have them, of which nothing else knows."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.Logger("test")  # noqa: LOG001 - it is to be gone after the test
    logger.addHandler(handler)
    return logger


def logged(value: object) -> str:
    """What stands in a log about `value`."""
    stream = io.StringIO()
    make_logger(stream).warning("Event %s failed.", printable(value))
    return stream.getvalue()


HOSTILE = {
    "a line end": "a\nERROR root: all is lost",
    "a Windows line end": "a\r\nERROR root: all is lost",
    "a carriage return": "a\rERROR root: all is lost",
    "other line ends": "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b",
    "NUL": "\0",
    "a backspace": "a\b\b\b",
    "an escape sequence of terminals": "\x1b[2J\x1b]0;title\x07",
    "C1 controls": "\x80\x9b1m\x9f",
    "a change of direction": "\u202eabc\u2066",
    "nothing to see": "\u200b\ufeff\u00ad",
    "a lone surrogate": "\ud800",
    "two lone surrogates": "\udc00\ud800",
    "quotes": "'\"'\"",
    "the end of the quotation": "a' failed.\nERROR root: b 'c",
    "backslashes": "\\\\n\\'",
    "placeholders": "%s %d %(levelname)s {0} {name}",
    "an empty string": "",
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("api-1-2fPc", "'api-1-2fPc'", id="plain"),
        pytest.param("", "''", id="empty"),
        pytest.param("a\nb", r"'a\nb'", id="a line end"),
        pytest.param("\x1b[31m\0", r"'\x1b[31m\x00'", id="controls"),
        pytest.param("it's", '"it\'s"', id="a quote"),
        pytest.param("'\"", "'\\'\"'", id="both quotes"),
        pytest.param("\\", r"'\\'", id="a backslash"),
        pytest.param("é\u2028", r"'\xe9\u2028'", id="beyond ASCII"),
        pytest.param("\U0001f600", r"'\U0001f600'", id="an emoji"),
        pytest.param("\ud800", r"'\ud800'", id="a lone surrogate"),
        pytest.param(None, "-", id="None"),
        pytest.param("-", "'-'", id="what stands for None"),
        pytest.param(0, "'0'", id="an integer"),
        pytest.param(False, "'False'", id="a boolean"),
        pytest.param(["a\n'"], r"""'["a\\n\'"]'""", id="a list"),
    ],
)
def test_printable(value: object, text: str) -> None:
    assert printable(value) == text


@pytest.mark.parametrize("character", ["x", "\n", "\ud800", "\U0001f600"], ids=ascii)
def test_printable_is_cut_at_200_characters(character: str) -> None:
    assert ast.literal_eval(printable(character * 200)) == character * 200
    assert ast.literal_eval(printable(character * 201)) == character * 200
    assert ast.literal_eval(printable(character * 1_000_000)) == character * 200


def test_what_is_no_string_is_cut_too() -> None:
    assert printable([1] * 1000) == f"'{str([1] * 1000)[:200]}'"


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_no_value_forges_a_line(value: str) -> None:
    line = logged(value)
    assert line == f"WARNING test: Event {printable(value)} failed.\n"
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert line[:-1].isprintable()
    assert ast.literal_eval(line.split(" ", 3)[3].removesuffix(" failed.\n")) == value


@settings(deadline=None, max_examples=500)
@given(st.text(st.characters(), max_size=300))
@example("'" * 300)
@example("\\" * 300)
def test_any_text_is_one_line_and_no_more_than_its_beginning(value: str) -> None:
    line = logged(value)
    assert line.splitlines(keepends=True) == [line]
    assert line.isascii()
    assert line[:-1].isprintable()
    # The quotation ends where it says it ends: it is a literal for the beginning of the value.
    assert ast.literal_eval(printable(value)) == value[:200]


class Payments:
    """Something that has an error of its own."""

    class Refused(Exception):
        """An error whose name alone would not tell much."""


class Unprintable(Exception):
    """An error whose message cannot be had."""

    __str__ = None  # type: ignore[assignment]  # as wrong as can be
    __repr__ = None  # type: ignore[assignment]  # likewise


def fail_plainly() -> None:
    raise ValueError(f"no course {MARK}")


def fail_with_an_own_error() -> None:
    raise Payments.Refused(MARK, {"email": MARK})


def fail_with_a_cause() -> None:
    try:
        fail_plainly()
    except ValueError as error:
        raise Payments.Refused(MARK) from error


def fail_while_handling() -> None:
    try:
        fail_plainly()
    except ValueError:
        raise Payments.Refused(MARK)  # noqa: B904 - the implicit chain is what is tested


def fail_with_notes() -> None:
    error = Payments.Refused("refused")
    error.add_note(f"while handling {MARK}")
    raise error


def fail_in_a_group() -> None:
    raise ExceptionGroup(MARK, [ValueError(MARK), KeyError(MARK)])


def fail_with_a_line_of_text() -> None:
    raise SyntaxError(MARK, (MARK, 1, 1, MARK))


def fail_unprintably() -> None:
    raise Unprintable


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """A stream that the test's log goes to."""
    with io.StringIO() as stream:
        yield stream


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (fail_plainly, "builtins.ValueError"),
        (fail_with_an_own_error, f"{__name__}.Payments.Refused"),
        (fail_with_a_cause, f"{__name__}.Payments.Refused"),
        (fail_while_handling, f"{__name__}.Payments.Refused"),
        (fail_with_notes, f"{__name__}.Payments.Refused"),
        (fail_in_a_group, "builtins.ExceptionGroup"),
        (fail_with_a_line_of_text, "builtins.SyntaxError"),
        (fail_unprintably, f"{__name__}.Unprintable"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_withheld_shows_where_and_what_but_not_why(
    fail: Callable[[], None], kind: str, log: io.StringIO
) -> None:
    try:
        fail()
    except Exception as error:
        # Within the handler, as it is used: there the error is the context of whatever is raised.
        make_logger(log).error("Event failed.", exc_info=withheld(error))
    text = log.getvalue()
    assert text.startswith("ERROR test: Event failed.\nTraceback (most recent call last):\n")
    assert text.count("Traceback (most recent call last)") == 1
    assert f", in {fail.__name__}\n" in text
    assert text.endswith(
        f"WithheldError: {kind} (its message is withheld: it may quote the event)\n"
    )
    assert MARK not in text
    assert "During handling" not in text
    assert "direct cause" not in text


def test_withheld_of_an_error_that_was_not_raised(log: io.StringIO) -> None:
    make_logger(log).error("Event failed.", exc_info=withheld(ValueError(MARK)))
    assert "WithheldError: builtins.ValueError (" in log.getvalue()
    assert MARK not in log.getvalue()


def test_withheld_leaves_the_error_as_it_is() -> None:
    with pytest.raises(Payments.Refused) as caught:
        fail_with_a_cause()
    error = caught.value
    kind, stand_in, trace = withheld(error)
    assert (kind, type(stand_in), trace) == (WithheldError, WithheldError, error.__traceback__)
    assert stand_in.__cause__ is stand_in.__context__ is None
    assert error.args == (MARK,)
    assert isinstance(error.__cause__, ValueError)
