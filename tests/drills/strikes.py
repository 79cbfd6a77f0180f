"""What the drills do to a site while events come in."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import TypeVar

from tests.servers import Server, find_children, send_signal

from .site import Site, outage

#: Does harm to a site; returns when the harm is done and what was stopped runs again.
Strike = Callable[[Site], None]

S = TypeVar("S", bound=Server)

_LONGEST_PAUSE_SECONDS = 1.5


def kill_web_worker(site: Site) -> None:
    """Kill one of the processes that answer requests; gunicorn starts another."""
    _kill_child(site.web)


def kill_web_server(site: Site) -> None:
    """Kill all of gunicorn."""
    site.web.kill()
    site.web.start()


def reload_web_server(site: Site) -> None:
    """Ask gunicorn to replace its workers, as after a new release."""
    send_signal(site.web.pid, signal.SIGHUP)


def kill_pool_process(site: Site) -> None:
    """Kill one of the processes that work on tasks; Celery starts another."""
    _kill_child(_get(site.worker))


def kill_worker(site: Site) -> None:
    """Kill the process that takes messages from the broker, and its pool after a moment."""
    worker = _get(site.worker)
    send_signal(worker.pid, signal.SIGKILL)
    time.sleep(random.uniform(0, 0.2))
    worker.kill()
    worker.start()


def restart_worker(site: Site) -> None:
    """Have a worker finish what it works on, and start another."""
    _get(site.worker).restart()


def stop_broker(site: Site) -> None:
    """Stop the broker in good order, and start it again."""
    _take_away(_get(site.broker), Server.stop)


def kill_broker(site: Site) -> None:
    """Kill the broker and start it again."""
    _take_away(_get(site.broker), Server.kill)


def stop_database(site: Site) -> None:
    """Stop the database in good order, and start it again."""
    _take_away(_get(site.database), Server.stop)


def kill_database(site: Site) -> None:
    """Kill the database and start it again."""
    _take_away(_get(site.database), Server.kill)


def stop_cache(site: Site) -> None:
    """Stop the cache in good order, and start it again."""
    with outage(site.cache_outages):
        _take_away(_get(site.cache), Server.stop)


def kill_cache(site: Site) -> None:
    """Kill the cache and start it again."""
    with outage(site.cache_outages):
        _take_away(_get(site.cache), Server.kill)


def _kill_child(server: Server) -> None:
    children = find_children(server.pid)
    if children:
        send_signal(random.choice(children), signal.SIGKILL)


def _take_away(server: Server, end: Callable[[Server], None]) -> None:
    end(server)
    time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))
    server.start()


def _get(server: S | None) -> S:
    if server is None:
        raise ValueError("the site has no such server")
    return server
