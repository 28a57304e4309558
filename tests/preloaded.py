"""Processes that need no time for imports: each is forked from one that has imported what they need.

``Preloaded`` starts that one, as ``python -m tests.preloaded IMPORTS``, where ``IMPORTS`` is a module that imports all
the rest. Of a forked process everything but the imports is its own: arguments, environment, folder, descriptors,
session, signals, and its end, in which Python reports what was not closed. Tests of what imports do start a new
interpreter.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_LONGEST_REQUEST = 2**20
_MOST_DESCRIPTORS = 8
_ABOVE = 64
"""No descriptor that a process asks for is that high."""


class Forked:
    """A process that is running, or has ended; as ``subprocess.Popen`` has it.

    Args:
        report: a pipe that gives the process id at once, and the exit code at the end.
    """

    def __init__(self, report: int) -> None:
        self._report = open(report, "rb", buffering=0)  # noqa: SIM115  (closed at the end of the process)
        self.pid = int(self._report.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended; negative if a signal has ended it."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._report], [], [], timeout)[0]:
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode


class Preloaded:
    """The process that is forked for each call of ``start``; it ends with this one.

    Args:
        imports: the module that it imports.
        options: of the interpreter.
    """

    def __init__(self, imports: str, *options: str) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *options, "-m", "tests.preloaded", imports],
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=theirs.fileno(),
                    start_new_session=True,
                )
            except BaseException:
                self._socket.close()
                raise
        atexit.register(self.close)

    def fileno(self) -> int:
        """Return the descriptor at which a process that inherits it calls ``start``, as this one does."""
        return self._socket.fileno()

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]
    ) -> Forked:
        """Run ``module`` as ``python -m`` does, in a session of its own; its descriptors are these, from 0 on."""
        return start(self._socket, module, arguments, environment, descriptors, ROOT)

    def close(self) -> None:
        """End the process; those that were forked go on."""
        atexit.unregister(self.close)
        with self._socket:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait()


def start(
    preloaded: socket.socket,
    program: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    descriptors: Sequence[int],
    folder: Path,
) -> Forked:
    """Run ``program``, a module or the path of a script, in ``folder``; see ``Preloaded.start``."""
    request = json.dumps([program, [*arguments], {**environment}, str(folder)])
    reading, writing = os.pipe()
    try:
        socket.send_fds(preloaded, [f"{len(request):8}{request}".encode()], [writing, *descriptors])
    finally:
        os.close(writing)
    return Forked(reading)


# --- in the process that is forked, and in those that are -------------------------------------------------------------


class _Request(NamedTuple):
    program: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str


def _serve(connection: socket.socket) -> _Request | None:
    """Fork a process for each request; in such a process return the request, and in this one None after the last."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to wait for those who wait
    while (received := _receive(connection)) is not None:
        text, (report, *descriptors) = received
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            _fork_and_report(report)
            _take(descriptors)
            return _Request(*json.loads(text))
        for descriptor in (report, *descriptors):
            os.close(descriptor)
    return None


def _receive(connection: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the next request and its descriptors."""
    text, descriptors, _, _ = socket.recv_fds(connection, _LONGEST_REQUEST, _MOST_DESCRIPTORS)
    if not text:
        return None
    length = 8 + int(text[:8])
    while len(text) < length:
        text += connection.recv(length - len(text))
    return text[8:], descriptors


def _fork_and_report(report: int) -> None:
    """Return in a new process; this one tells its process id, waits for its end, tells the exit code, and ends."""
    if (pid := os.fork()) == 0:
        os.close(report)
        os.setsid()
        return
    os.write(report, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _take(descriptors: Sequence[int]) -> None:
    """Make ``descriptors`` 0, 1, 2 and so on."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _main(imports: str) -> None:
    importlib.import_module(imports)
    gc.freeze()  # what was imported is not looked through at the end of each process
    with socket.socket(fileno=0) as connection:
        request = _serve(connection)
    if request is not None:
        os.environ.clear()
        os.environ.update(request.environment)
        os.chdir(request.folder)
        sys.argv[:] = [request.program, *request.arguments]
        if Path(request.program).is_absolute():
            runpy.run_path(request.program, run_name="__main__")
        else:
            runpy.run_module(request.program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(sys.argv[1])
