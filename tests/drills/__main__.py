"""Play what can go wrong on a site, and print the table of docs/reliability.md.

python -m tests.drills                        everything, in less than ten minutes
python -m tests.drills --quick                the most telling of it, in less than one
python -m tests.drills --only redis-broker    one drill

The exit status is 1 if a promise is broken. Redis, RabbitMQ and PostgreSQL must be installed; they
need not run.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from tests.benchmarks.report import replace_section

from . import report
from .counting import Count
from .drill import FULL, QUICK, Drill, Scale, run_drill
from .plan import DRILLS


def main() -> int:
    """Run the drills and return the exit status."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    drills = [
        drill
        for drill in DRILLS
        if (drill.name in options.only if options.only else drill.quick or not options.quick)
    ]
    scale = QUICK if options.quick else FULL
    counts = dict(zip(drills, _run(drills, scale, options.jobs, options.keep), strict=True))
    by_title = {drill.title: count for drill, count in counts.items()}
    paragraphs = (
        report.describe_environment(),
        report.counts_table(by_title),
        report.describe_celery(by_title),
    )
    text = "\n\n".join(filter(None, paragraphs))
    sys.stdout.write(f"{text}\n")
    if options.write:
        replace_section(options.write, "drills", text)
    broken_promises = [
        f"{drill.name}: {promise}"
        for drill, count in counts.items()
        for promise in count.broken_promises
    ]
    for promise in broken_promises:
        sys.stderr.write(f"Broken promise: {promise}\n")
    return 1 if broken_promises else 0


def _run(drills: Sequence[Drill], scale: Scale, jobs: int, keep: Path | None) -> list[Count]:
    """Run drills, some at the same time, since much of a drill is waiting."""
    interrupted = threading.Event()

    def run(drill: Drill) -> Count:
        try:
            count = run_drill(drill, scale, interrupted, keep and keep / drill.name)
        except BaseException:
            interrupted.set()
            raise
        sys.stderr.write(f"{drill.name}: {count.seconds:.0f} s\n")
        return count

    with ThreadPoolExecutor(jobs) as pool:
        # The longest first, lest the others wait for it in the end.
        futures = {
            drill.name: pool.submit(run, drill)
            for drill in sorted(drills, key=lambda drill: drill.length, reverse=True)
        }
        try:
            return [futures[drill.name].result() for drill in drills]
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            # From here on there is nothing to do but to clean up.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.drills",
        description="Kill and restart the parts of a site while events come in, and count.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[drill.name for drill in DRILLS],
        metavar="NAME",
        help="a drill to run, and no other; can be given more than once: %(choices)s",
    )
    parser.add_argument(
        "--quick", action="store_true", help="run the most telling drills, and shorter"
    )
    parser.add_argument(
        "--jobs", type=int, default=3, metavar="N", help="run so many at the same time"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the logs here")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="write the table into this page too, between the comments <!-- drills --> and "
        "<!-- end of drills -->",
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
