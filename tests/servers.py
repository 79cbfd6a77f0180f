"""Servers of one's own for tests: each on a free port of the loopback interface, with its data in
a directory that is gone afterwards, to be stopped, killed and started again at will.

    with Redis(persistent=True) as redis:
        use(redis.url)
        redis.kill()
        redis.start()

They need Linux (/proc) and the programs themselves, which they look for where distributions put
them too. Started by root, those that refuse to run as root run under an account of less privilege.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

_POLL_SECONDS = 0.05
_TAIL_CHARACTERS = 3000


class ServerError(RuntimeError):
    """A server did not do what it was told; the text has the end of its log."""


class ProgramMissing(ServerError):
    """A program is not installed on this machine; the text has its name."""


class Server(ABC):
    """A server program, its directory and its port; it runs from `with` on, unless told otherwise.

    The port, the directory and with it the server's durable data stay the same across restarts.
    """

    #: How long it may take to start.
    start_seconds: ClassVar[float] = 60
    #: How long it may take to stop when it is asked to, and to vanish when it is killed.
    stop_seconds: ClassVar[float] = 30
    #: What asks the server to stop in good order.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: Whom the server runs as if root starts it; None for root.
    account: ClassVar[str | None] = None

    def __init__(self) -> None:
        self.port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find the server."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return what runs the server in the foreground; it logs to its standard output."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether the server, which was started, takes requests by now."""

    def environment(self) -> Mapping[str, str]:
        """Return what the server needs in its environment beside what this process has."""
        return {}

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Fill the new directory before the first start."""

    @property
    def pid(self) -> int:
        """The id of the process that was started."""
        return self._running().pid

    @property
    def has_ended(self) -> bool:
        """Whether the server ended by itself since it was started."""
        return self._running().poll() is not None

    @property
    def log(self) -> Path:
        """What the server wrote to its standard output and error, over all its lives."""
        return self.directory / "server.log"

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(
            prefix=f"{type(self).__name__.lower()}-", ignore_cleanup_errors=True
        )
        self.directory = Path(self._temporary.name)
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, and return as soon as it is ready.

        Raises ProgramMissing, or ServerError if it ends or takes too long instead.
        """
        if self._process is not None:
            raise ServerError(f"{self} runs already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                # What it leaves there when it is killed goes with its directory.
                env={**os.environ, "TMPDIR": str(self.directory), **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for the tests alone, which then stop the server.
                start_new_session=True,
                user=self._user,
            )
        self._wait(
            lambda: self.is_ready() or self.has_ended, self.start_seconds, "does not get ready"
        )
        if self.has_ended:
            raise self._error(f"ended with status {self._process.returncode}")

    def stop(self) -> None:
        """Stop the server in good order; kill it and raise ServerError if it takes too long."""
        self._running().send_signal(self.stop_signal)
        try:
            self._wait(lambda: self.has_ended, self.stop_seconds, "does not stop")
        finally:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the server and all that it started, and return when they are gone."""
        process = self._running()
        victims = find_descendants(process.pid)
        process.kill()
        process.wait()
        # What has lost its parent meanwhile is still in the session.
        victims += [other.pid for other in _processes() if other.session == process.pid]
        for victim in victims:
            send_signal(victim, signal.SIGKILL)
        self._process = None
        self._wait(lambda: not _alive(victims), self.stop_seconds, "does not die")

    def restart(self) -> None:
        """Stop the server in good order and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill the server if it runs, and delete its directory."""
        if self._process is not None:
            self.kill()
        self._temporary.cleanup()

    def __str__(self) -> str:
        return f"{type(self).__name__} on port {self.port}"

    @property
    def _user(self) -> str | None:
        return self.account if os.geteuid() == 0 else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{self} does not run")
        return self._process

    def _wait(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise self._error(f"{failure} within {seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def _error(self, failure: str) -> ServerError:
        tail = self.log.read_text(errors="replace")[-_TAIL_CHARACTERS:]
        return ServerError(f"{self} {failure}. Its log ends:\n{tail}")


class Redis(Server):
    """A Redis server; only if it is `persistent` does it remember anything after its end."""

    def __init__(self, *, persistent: bool = False) -> None:
        super().__init__()
        self.persistent = persistent

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        """Have every change on disk before it is answered, or never."""
        return (
            *(find_program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--dir", self.directory, "--save", ""),
            *("--appendonly", "yes" if self.persistent else "no", "--appendfsync", "always"),
        )

    def is_ready(self) -> bool:
        """Tell whether the server has loaded its data."""
        return exchange(self.port, b"PING\r\n").startswith(b"+PONG")


class Memcached(Server):
    """A Memcached server."""

    account = "nobody"

    @property
    def url(self) -> str:
        """Host and port, which is what clients of Memcached take."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        """Listen to TCP alone."""
        return (find_program("memcached"), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0")

    def is_ready(self) -> bool:
        """Tell whether the server answers."""
        return exchange(self.port, b"version\r\n").startswith(b"VERSION")


class PostgreSQL(Server):
    """A PostgreSQL server, whose superuser `postgres` needs no password."""

    # Waits for no client, and leaves nothing to recover.
    stop_signal = signal.SIGINT
    account = "postgres"

    @property
    def url(self) -> str:
        """The URL of the database `postgres`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        """Make the database cluster."""
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        subprocess.run(
            (find_program("initdb"), "--pgdata", self._data, *options, "--no-sync"),
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            check=True,
            user=self._user,
        )

    def command(self) -> Sequence[str | Path]:
        """Listen to TCP alone, and flush nothing to the disk: no power failure is played here."""
        return (
            *(find_program("postgres"), "-D", self._data, "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "fsync=off"),
        )

    def is_ready(self) -> bool:
        """Tell whether the server has recovered and accepts connections."""
        question = (find_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return subprocess.run(question).returncode == 0

    @property
    def _data(self) -> Path:
        return self.directory / "data"


class RabbitMQ(Server):
    """A node of RabbitMQ without plugins, beside any other node of this machine.

    It takes some seconds to start. Durable queues and persistent messages survive it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._distribution_port = find_free_port()
        self._port_mapper = _PortMapper()

    @property
    def url(self) -> str:
        """The URL of the default virtual host, with the default user."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def prepare(self) -> None:
        """Write a configuration that leaves this machine's own aside."""
        self._port_mapper.__enter__()
        (self.directory / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
        (self.directory / "rabbitmq-env.conf").touch()
        (self.directory / "plugins").write_text("[].\n")

    def environment(self) -> Mapping[str, str]:
        """Keep all that a node has or shares to this one: files, ports, names, cookie."""
        return {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._port_mapper.port),
            "HOME": str(self.directory),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2"
            ),
        }

    def command(self) -> Sequence[str | Path]:
        """Run the server's own script, not the one that changes to the account of the package."""
        return (find_program("rabbitmq-server"),)

    def is_ready(self) -> bool:
        """Tell whether the server begins to talk AMQP, which it does at the end of its start."""
        return exchange(self.port, b"AMQP\x00\x00\x09\x01").startswith(b"\x01")

    def count_messages(self) -> int:
        """Return how many messages there are in all queues, those with consumers included."""
        question = ("--node", self._node, "--silent", "list_queues", "messages")
        answer = subprocess.run(
            (find_program("rabbitmqctl"), *question),
            env={**os.environ, **self.environment()},
            stdout=subprocess.PIPE,
            check=True,
        )
        return sum(map(int, answer.stdout.split()))

    @property
    def _node(self) -> str:
        return f"node-{self.port}@localhost"

    def close(self) -> None:
        """Kill the node and its port mapper, and delete their directories."""
        super().close()
        self._port_mapper.close()


class _PortMapper(Server):
    """Erlang's port mapper, which a node would start by itself and leave behind."""

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        return (find_program("epmd"), "-port", str(self.port), "-address", "127.0.0.1")

    def is_ready(self) -> bool:
        # A request for the names of the nodes, with its length before it; the answer begins with
        # the port.
        return exchange(self.port, b"\x00\x01n").startswith(self.port.to_bytes(4, "big"))


def find_free_port() -> int:
    """Return a port of the loopback interface that nothing listens to.

    It is none that a client's end of a connection may be given: one that is given away while its
    server is down would keep the server from starting again.
    """
    candidates = range(20_000, 32_768)
    for port in random.sample(candidates, len(candidates)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise ServerError("no port is free")


def find_program(name: str) -> Path:
    """Return the path of a program; raise ProgramMissing if it is nowhere to be found."""
    folders = (*_program_folders(), *os.get_exec_path())
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise ProgramMissing(f"{name} is not installed")
    return Path(found)


def _program_folders() -> Iterator[Path]:
    """Yield the folders where Debian has programs that are not meant for the command line."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    yield Path("/usr/lib/rabbitmq/bin")
    yield Path("/usr/sbin")


def exchange(port: int, request: bytes) -> bytes:
    """Send a request and return how the answer begins, or nothing if none comes within 1 s."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(request)
        return connection.recv(16)
    return b""


@dataclass(frozen=True, slots=True)
class _Process:
    """What /proc tells about a process."""

    pid: int
    state: str
    parent: int
    session: int


def find_children(pid: int) -> list[int]:
    """Return the ids of the processes that this one has started, if they are alive."""
    return [other.pid for other in _processes() if other.parent == pid]


def find_descendants(pid: int) -> list[int]:
    """Return the ids of the processes that this one has started, directly or not."""
    parents = {other.pid: other.parent for other in _processes()}
    found = {pid}
    while more := {other for other, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone by now."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pids: Collection[int]) -> bool:
    return any(other.pid in pids for other in _processes())


def _processes() -> list[_Process]:
    """Return all processes that are alive: a zombie is not."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                # The name, in parentheses, may have spaces and parentheses.
                _, _, fields = (entry / "stat").read_text(errors="replace").rpartition(")")
                state, parent, _, session = fields.split()[:4]
                processes.append(_Process(int(entry.name), state, int(parent), int(session)))
    return [process for process in processes if process.state not in "ZX"]
