"""Peak memory of one delivery above idle, in a process of its own.

python -m tests.benchmarks.memory rss|tracemalloc FILE

FILE holds the body. Prints bytes: of the process's resident set, or of what Python allocated.
Needs the environment of `site.benchmark_site`, and /proc.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from .events import encode, make_events
from .site import BRIDGE, Site, make_environ, make_environs


def main(meter: str, body: Path) -> None:
    """Print the peak in bytes of a delivery of `body`, above what the process needs at rest."""
    peak_above_idle = METERS[meter]
    site = Site()
    site.deliver(make_environs(BRIDGE, [encode(make_events(10))] * 10))
    with body.open("rb") as file:
        environ = make_environ(BRIDGE[0], file, os.stat(body).st_size)
        gc.collect()
        sys.stdout.write(f"{peak_above_idle(lambda: site.deliver([environ]))}\n")


def _resident(run: Callable[[], None]) -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    idle = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - idle


def _allocated(run: Callable[[], None]) -> int:
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    return peak


METERS = {"rss": _resident, "tracemalloc": _allocated}


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    (kibibytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kibibytes) * 1024


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
