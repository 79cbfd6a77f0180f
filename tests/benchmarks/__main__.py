"""Measure what the bridge costs above its floors, and print the tables of docs/performance.md.

python -m tests.benchmarks                             everything, in about five minutes
python -m tests.benchmarks --quick                     only to see that it works
python -m tests.benchmarks --only http --write PAGE    a part of it, into a page

No ratio makes it fail: these are no timed tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import figures, http, queries, report
from .site import benchmark_site


def main() -> int:
    """Run the benchmarks and return the exit status."""
    options = _parse_arguments()
    with benchmark_site(options.database):
        sections = [
            _show(report.describe_environment()),
            *(_show(_PARTS[part](options.quick)) for part in options.only or _PARTS),
        ]
    if options.write:
        name = f"benchmarks on {options.database}"
        report.replace_section(options.write, name, "\n\n".join(sections))
    return 0


def _show(section: str) -> str:
    sys.stdout.write(f"{section}\n\n")
    sys.stdout.flush()
    return section


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure what the bridge costs above the least that it could cost.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=_PARTS,
        help="a part to measure, and no other; can be given more than once",
    )
    parser.add_argument(
        "--quick", action="store_true", help="take a few seconds, only to see that it works"
    )
    parser.add_argument("--database", default="sqlite", choices=("sqlite", "postgresql", "mariadb"))
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="write the tables into this page too, between the comments "
        "<!-- benchmarks on DATABASE --> and <!-- end of benchmarks on DATABASE -->",
    )
    return parser.parse_args()


def _measure_figures(quick: bool) -> str:
    scale = figures.QUICK if quick else figures.FULL
    return report.figures_table(figures.measure_figures(scale))


def _measure_queries(quick: bool) -> str:
    return report.queries_table(queries.measure_queries(repetitions=5 if quick else 300))


def _measure_http(quick: bool) -> str:
    results, large_deliveries = http.measure_http(http.QUICK if quick else http.FULL)
    return f"{report.http_table(results)}\n\n{report.large_deliveries_table(large_deliveries)}"


_PARTS: dict[str, Callable[[bool], str]] = {
    "figures": _measure_figures,
    "queries": _measure_queries,
    "http": _measure_http,
}

if __name__ == "__main__":
    sys.exit(main())
