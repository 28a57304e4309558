"""The benchmarks' children, forked from one process that has their imports."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO

from tests.preloaded import preloaded


class ForkedChild:
    """What ``benchmarks.process`` uses of ``subprocess.Popen``; the command is ``python -m MODULE ARGUMENTS PIPE``."""

    def __init__(
        self, command: Sequence[str], *, stderr: IO[bytes], pass_fds: Sequence[int], env: Mapping[str, str], **_: object
    ) -> None:
        reading, requests = os.pipe()
        answers, writing = os.pipe()
        descriptors = [reading, writing, stderr.fileno(), *pass_fds]
        module, *arguments = command[command.index("-m") + 1 :]
        if pass_fds:
            arguments[-1] = str(descriptors.index(pass_fds[0]))
        self.stdin, self.stdout = os.fdopen(requests, "wb"), os.fdopen(answers, "rb")
        try:
            self._process = preloaded("tests.project.imports").start(module, arguments, env, descriptors)
        finally:
            os.close(reading)
            os.close(writing)
        self.pid, self.wait = self._process.pid, self._process.wait

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)


FORKING = SimpleNamespace(Popen=ForkedChild, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
"""Takes the place of ``subprocess``."""
