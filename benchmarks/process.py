"""Child processes that answer JSON lines, and pairs of them: a consumer that tells its producer when it waits."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Self

from benchmarks.stats import milliseconds

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE: Final = 180.0
_END: Final = 10.0

Reply = dict[str, Any]
Pause = tuple[float, float]


class ChildFailed(Exception):
    """Raised when a contestant's process ends, reports an error, or is silent for too long."""


class Child:
    """A process that performs one operation at a time. ``pipe`` is a file descriptor that it inherits, or -1."""

    def __init__(self, name: str, command: Sequence[str], pipe: int) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            pass_fds=[pipe] if pipe >= 0 else [],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._unread = b""
        try:
            self._receive(PATIENCE)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, operation: str, **arguments: object) -> None:
        """Tell the child to perform ``operation``; ``reply`` returns its outcome."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": operation, **arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def reply(self, patience: float = PATIENCE) -> Reply:
        """Return the reply to the operation that was sent last.

        Raises:
            ChildFailed: there is none, or an error; its text contains the child's traceback.
        """
        message = self._receive(patience)
        if "error" in message:
            raise ChildFailed(f"{self.name}: {message['error']}")
        reply: Reply = message["reply"]
        return reply

    def ask(self, operation: str, **arguments: object) -> Reply:
        """Let the child perform ``operation`` and return its reply."""
        self.send(operation, **arguments)
        return self.reply()

    def _receive(self, patience: float) -> Reply:
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + patience
        while b"\n" not in self._unread:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise ChildFailed(f"{self.name} said nothing for {patience:g} s:\n{self._tail()}")
            data = os.read(descriptor, 2**20)
            if not data:
                raise ChildFailed(f"{self.name} ended with {self._process.wait(_END)}:\n{self._tail()}")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: Reply = json.loads(line)
        return message

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]

    def close(self) -> None:
        """End the child: close its input, or kill it."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Entrant:
    """A contestant as the cases see it: its name, and how to start its processes.

    Args:
        name: as it is shown.
        kind: see ``benchmarks.contestants``.
        url: the store's.
        options: see the contestant.
        producer: the entrant that stores for it, by default itself.
    """

    def __init__(self, name: str, kind: str, url: str, *, producer: Entrant | None = None, **options: Any) -> None:
        self.name = name
        self.kind = kind
        self.url = url
        self.options = options
        self.producer = producer or self

    def command(self, pipe: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.child", self.kind, self.url, json.dumps(self.options), str(pipe)]

    def start(self, pipe: int = -1) -> Child:
        return Child(self.name, self.command(pipe), pipe)


class Pair:
    """A consumer and a producer, with a pipe from the consumer to the producer."""

    def __init__(self, entrant: Entrant) -> None:
        self.name = entrant.name
        reading, writing = os.pipe()
        try:
            self.consumer = entrant.start(writing)
            try:
                self.producer = entrant.producer.start(reading)
            except BaseException:
                self.consumer.close()
                raise
        finally:
            os.close(reading)
            os.close(writing)

    def latencies(
        self, consume: str, produce: str, *, run: str, count: int, pause: Pause, **more: object
    ) -> list[float]:
        """Return the milliseconds of ``count`` events, one after the other, from the producer's side to the consumer's.

        The operation ``consume``, which gets ``more`` as well, returns ``resumed_at``, and ``produce`` ``stored_at``.
        """
        self.consumer.send(consume, run=run, count=count, **more)
        self.producer.send(produce, run=run, count=count, pause=pause)
        stored_at = self.producer.reply()["stored_at"]
        return milliseconds(stored_at, self.consumer.reply()["resumed_at"])

    def close(self) -> None:
        self.consumer.close()
        self.producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
