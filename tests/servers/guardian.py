"""Ends the servers of a test run that did not end them itself.

Run as a program, with a pipe from the test run as its standard input. Each line is ``+ PID``, ``- PID`` or
``/ FOLDER``. When the pipe closes, however the test run ended, every server that is still listed is killed and all
folders are deleted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def protect(pid: int, folder: Path) -> None:
    """Have process ``pid`` killed and ``folder`` deleted if this process dies without calling ``release``."""
    _tell(f"+ {pid}\n")
    delete(folder)


def release(pid: int) -> None:
    """Take ``pid`` off the list: it has ended. Its folder stays on it, for the next start."""
    _tell(f"- {pid}\n")


def delete(folder: Path) -> None:
    """Have ``folder`` deleted once this process has ended."""
    _tell(f"/ {folder}\n")


def _tell(line: str) -> None:
    os.write(_pipe(os.getpid()), line.encode())


@functools.cache
def _pipe(owner: int) -> int:
    """Return the writing end of a pipe to the guardian of this process, not of the one that it was forked from."""
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, __file__], stdin=reading, start_new_session=True, cwd="/")
    process.returncode = 0  # it outlives this process by design, so nobody waits for it
    os.close(reading)
    return writing


def main(lines: Iterable[str]) -> None:
    running: set[int] = set()
    folders: set[str] = set()
    for line in lines:
        sign, what = line.rstrip("\n").split(maxsplit=1)
        if sign == "+":
            running.add(int(what))
        elif sign == "-":
            running.discard(int(what))
        else:
            folders.add(what)
    for server in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server, signal.SIGKILL)
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(sys.stdin)
