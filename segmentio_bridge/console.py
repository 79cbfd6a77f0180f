"""What the management commands have in common: help that keeps its lines, and tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class _HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's, which leaves the lines of the description and the examples as they are."""


class DescribedCommand(BaseCommand):
    """A command whose help has `help` before the options and `epilog` after them, line by line."""

    epilog: ClassVar[str]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, with help that keeps its lines."""
        kwargs = {"epilog": self.epilog, "formatter_class": _HelpFormatter, **kwargs}
        return super().create_parser(prog_name, subcommand, **kwargs)


def tabulate(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table; its last column holds numbers, which are set flush right."""
    table = [head, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for *texts, number in table:
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        yield "  ".join([*cells, number.rjust(widths[-1])])
