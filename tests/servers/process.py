"""A private server process on a free loopback port, in a temporary folder of its own."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.servers import guardian

HOST = "127.0.0.1"
START_TIMEOUT = 60.0
RETRY_TIMEOUT = 5.0
"""How long a server that ends by itself is started again: its port or memory may not be free yet after a kill."""
STOP_TIMEOUT = 30.0
WITHOUT = "AIORESULT_TEST_WITHOUT"
"""Names what a run leaves out: ``servers``, or ``servers,processes`` as `make test-quick` has it."""
_LOG_TAIL = 4000
_MADE: dict[tuple[str, ...], Path] = {}
"""The folders that hold the data which commands of ``Server.make_data`` have made, to be copied from."""


class NotReady(Exception):
    """Raised by ``Server.probe`` while the server does not answer yet."""


def _in_memory() -> str | None:
    """Return where servers keep their data: in memory, where there is room, since syncing a disk is slow."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK) and shutil.disk_usage(shared).free > 4 * 2**30:
        return str(shared)
    return None


class ServerFailed(Exception):
    """Raised when a server cannot be started or stopped; carries the end of its log."""


def missing(reason: str) -> BaseException:
    """Return what to raise for a server that this machine lacks.

    It skips the test, under ``CI`` it fails it, and outside of pytest it is an ordinary error.
    """
    if "PYTEST_CURRENT_TEST" not in os.environ:
        return ServerFailed(reason)
    if os.environ.get("CI"):
        return pytest.fail.Exception(f"{reason} (CI is set, so this is a failure and not a skip)", pytrace=False)
    return pytest.skip.Exception(reason)


def is_left_out(what: str) -> bool:
    """Return whether this run leaves out tests that start ``what``."""
    return what in os.environ.get(WITHOUT, "").split(",")


def leave_out(what: str) -> None:
    """Skip the test that is about to start ``what``, if this run leaves that out."""
    if is_left_out(what) and "PYTEST_CURRENT_TEST" in os.environ:
        raise pytest.skip.Exception(f"it starts {what}, and {WITHOUT} names them")


def free_port() -> int:
    """Return a loopback port that is free now, and out of the range from which clients get theirs."""
    for _ in range(1000):
        port = random.randrange(15000, 32000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerFailed(f"no free port between 15000 and 32000 on {HOST}")


def with_path(url: str, path: str) -> str:
    """Return ``url`` with another database: its path replaced, its query kept."""
    return urlsplit(url)._replace(path=f"/{path}").geturl()


class Server(ABC):
    """One server process, not started yet.

    A context manager: started on entry, ended and deleted on exit. A test run that dies takes its servers along.

    Attributes:
        name: what the server is called in messages.
        owned: whether the tests may stop it; ``ExternalServer`` is the other case.
        port: its port on 127.0.0.1, the same after a restart.
        folder: holds data, log and socket; gone after ``close``.
    """

    name: str
    owned = True
    stop_signal = signal.SIGTERM
    unprivileged = False
    """Whether the server refuses to run as root, and is therefore run as ``nobody`` by a root user."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL as a user of aioresult would write it."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""

    @abstractmethod
    def probe(self) -> None:
        """Connect once; return if the server is ready.

        Raises:
            NotReady: it is not, or an ``OSError`` says so.
        """

    def prepare(self) -> None:  # noqa: B027  (most servers need nothing)
        """Create in ``folder`` what the server needs before its first start."""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server and its tools have printed so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def start(self) -> None:
        """Start the server and return when it answers; the first time on fresh data, then on the old."""
        if self.running:
            return
        leave_out("servers")
        if self.folder == Path():
            self._make_folder()
        now = time.monotonic()
        while not self._try_to_start(now + START_TIMEOUT):
            if time.monotonic() > now + RETRY_TIMEOUT:
                raise ServerFailed(f"{self.name} does not start on port {self.port}:\n{self.log[-_LOG_TAIL:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Shut the server down in an orderly manner."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End the server at once, with SIGKILL."""
        self._end(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the server from running: its connections stay open, and nothing comes from them."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill the server and delete its folder."""
        self.kill()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = Path()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on port {self.port}, {'running' if self.running else 'not running'}>"

    def run(self, *command: str) -> None:
        """Run one of the server's own tools to its end, as the server's user."""
        with (self.folder / "log").open("ab") as log:
            code = self._popen(command, log.fileno()).wait(START_TIMEOUT)
        if code:
            raise ServerFailed(f"{command[0]} ended with {code}:\n{self.log[-_LOG_TAIL:]}")

    def make_data(self, *command: str) -> None:
        """Create ``folder / "data"`` by ``command``, whose last option is given that path.

        It runs once in this process. Each server gets a copy of what it made, which takes a tenth of the time.
        """
        made = _MADE.get(command)
        if made is None:
            made = self._new_folder()
            guardian.delete(made)
            self.run(*command[:-1], f"{command[-1]}{made / 'data'}")
            _MADE[command] = made
        self.run("cp", "-a", str(made / "data"), str(self.folder))

    def _make_folder(self) -> None:
        self.folder = self._new_folder()
        self.prepare()

    def _new_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"aioresult-{self.name}-", dir=_in_memory()))
        if user := self.user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        return folder

    @property
    def user(self) -> pwd.struct_passwd | None:
        """The user to run as, where that is not the current one."""
        return pwd.getpwnam("nobody") if self.unprivileged and os.geteuid() == 0 else None

    def _popen(self, command: tuple[str, ...] | list[str], log: int) -> subprocess.Popen[bytes]:
        user = self.user
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            # A MariaDB that starts deletes the temporary tables of every other one that shares its folder for them.
            env=os.environ | {"TMPDIR": str(self.folder)},
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
        )

    def _try_to_start(self, deadline: float) -> bool:
        """Start the process and wait until it is ready, or until it has ended by itself."""
        with (self.folder / "log").open("ab") as log:
            self._process = self._popen(self.command(), log.fileno())
        guardian.protect(self._process.pid, self.folder)
        while self.running and time.monotonic() < deadline:
            try:
                self.probe()
            except (OSError, NotReady):
                time.sleep(0.01)
            else:
                return self.running
        self.kill()
        return False

    def _end(self, signum: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signum)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(f"{self.name} ignores signal {signum}:\n{self.log[-_LOG_TAIL:]}") from None
        finally:
            guardian.release(process.pid)
