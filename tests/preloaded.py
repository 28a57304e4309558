"""Processes that need no time for imports: each is forked from one that has imported what they need.

``Preloaded`` starts that one, as ``python -m tests.preloaded IMPORTS``, where ``IMPORTS`` is a module that imports all
the rest. Of a forked process everything but the imports is its own: arguments, environment, folder, descriptors,
session, signals, and its end, in which Python reports what was not closed. Tests of what imports do start a new
interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[1]
_MOST_DESCRIPTORS = 8
_ABOVE = 64
"""No descriptor that a process asks for is that high."""


class Forked:
    """A process that is running, or has ended; as ``subprocess.Popen`` has it.

    Args:
        connection: gives the process id at once, and the exit code at the end. Closed, it ends the process.
    """

    def __init__(self, connection: socket.socket) -> None:
        with connection:
            self._report = connection.makefile("rb", buffering=0)
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

    Attributes:
        folder: for files that last as long as it does.
        address: where ``start`` of this module finds it, from any process.
    """

    def __init__(self, imports: str, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
        self.address = str(self.folder / "socket")
        try:
            self._process = self._started(imports, *options)
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        self._life = _connected(self.address)
        atexit.register(self.close)

    def _started(self, imports: str, *options: str) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.address)
            listening.listen()
            return subprocess.Popen(
                [sys.executable, *options, "-m", "tests.preloaded", imports],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=listening.fileno(),
                start_new_session=True,
            )

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]
    ) -> Forked:
        """Run ``module`` as ``python -m`` does, in a session of its own; its descriptors are these, from 0 on."""
        return start(self.address, module, arguments, environment, descriptors, ROOT)

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        timeout: float,
        given: str = "",
    ) -> tuple[int, str, str]:
        """Run ``module`` to its end, with ``given`` as its input, and return its exit code, output and errors.

        It is killed after ``timeout`` seconds. A byte that is no UTF-8 stands in the text as its surrogate escape.
        """
        with contextlib.ExitStack() as stack:
            standard = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            standard[0].write(given.encode(errors="surrogateescape"))
            standard[0].seek(0)
            process = self.start(module, arguments, environment, [file.fileno() for file in standard])
            try:
                code = process.wait(timeout)
            finally:
                process.send_signal(signal.SIGKILL)  # unless it has ended
            out, err = (_text(file) for file in standard[1:])
            return code, out, err

    def close(self) -> None:
        """End the process; those that were forked go on."""
        atexit.unregister(self.close)
        self._life.close()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)  # unless it has done so


@functools.cache
def preloaded(imports: str = "tests.imports") -> Preloaded:
    """Return the one process that has imported ``imports``: by default that from which most programs are forked."""
    return Preloaded(imports)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")


def start(
    address: str,
    program: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    descriptors: Sequence[int],
    folder: Path,
) -> Forked:
    """Run ``program``, a module or the path of a script, in ``folder``; see ``Preloaded.start``."""
    request = json.dumps([program, [*arguments], {**environment}, str(folder)]).encode()
    connection = _connected(address)
    try:
        socket.send_fds(connection, [b"%8d" % len(request)], descriptors)
        connection.sendall(request)
    except BaseException:
        connection.close()
        raise
    return Forked(connection)


def _connected(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


# --- in the process that is forked, and in those that are -------------------------------------------------------------


class _Request(NamedTuple):
    program: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str


def _serve(listening: socket.socket) -> _Request | None:
    """Fork a process for each request; in such a process return the request, and in this one None after the last."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to wait for those who wait
    life, _ = listening.accept()  # closed when there will be no more requests
    with life:
        while listening in select.select([listening, life], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    request, descriptors = _receive(connection)
                    _fork_and_report(connection)
                    for own in (listening, life, connection):  # whose numbers others take
                        own.close()
                    _take(descriptors)
                    return request
    shutil.rmtree(Path(listening.getsockname()).parent)  # here, since the test run may have been killed
    return None


def _receive(connection: socket.socket) -> tuple[_Request, list[int]]:
    """Return a request and its descriptors."""
    length, descriptors, _, _ = socket.recv_fds(connection, 8, _MOST_DESCRIPTORS)
    with connection.makefile("rb") as file:
        return _Request(*json.loads(file.read(int(length)))), descriptors


def _fork_and_report(connection: socket.socket) -> None:
    """Return in a new process; this one tells its process id, waits for its end, tells the exit code, and ends."""
    if (pid := os.fork()) == 0:
        os.setsid()
        return
    ended = threading.Event()
    threading.Thread(target=_kill_when_left, args=(pid, ended, connection), daemon=True).start()
    with contextlib.suppress(OSError):  # nobody waits for it any more
        connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    ended.set()
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _kill_when_left(pid: int, ended: threading.Event, connection: socket.socket) -> None:
    """Kill a process and those that it has started if nobody waits for it any more."""
    try:
        left = not connection.recv(1)
    except OSError:
        left = True
    if left and not ended.is_set():
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has no session of its own yet, and hence has started nothing
            os.kill(pid, signal.SIGKILL)


def _take(descriptors: Sequence[int]) -> None:
    """Make ``descriptors`` 0, 1, 2 and so on."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _open_output() -> None:
    """Make the output's text streams as a new interpreter does: the present ones know the files of the parent."""
    for name, number, buffering in (("stdout", 1, -1), ("stderr", 2, 1)):
        old = getattr(sys, name)
        setattr(sys, name, open(number, "w", buffering, old.encoding, old.errors, closefd=False))  # noqa: SIM115  (descriptors, open to the end)


def _main(imports: str) -> None:
    importlib.import_module(imports)
    gc.freeze()  # what was imported is not looked through at the end of each process
    with socket.socket(fileno=0) as listening:
        request = _serve(listening)
    if request is not None:
        _open_output()
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
