"""The worker's process, as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from aioresult.background import owned_task
from aioresult.cli.demo.worker import SETTINGS_VARIABLE
from aioresult.errors import AioResultError

T = TypeVar("T")
Pipe = TypeVar("Pipe", asyncio.StreamReader, asyncio.StreamWriter)


class WorkerDied(AioResultError):
    """Raised when the second process ends before its tasks do."""


class Worker:
    """A second process that runs tasks and stores their results.

    Args:
        url: the store; passed in the environment, where other users cannot see its password.
        settings: settings of its backend.
    """

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self._environment = {**os.environ, "AIORESULT_URL": url, SETTINGS_VARIABLE: json.dumps(settings)}
        self._process: asyncio.subprocess.Process
        self._ended: asyncio.Task[str]

    async def __aenter__(self) -> Self:
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aioresult.cli.demo.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # so that only the parent gets Ctrl-C
        )
        self._ended = owned_task(_ending(process), "aioresult demo worker")
        try:
            if await _pipe(process.stdout).readline() != b"ready\n":
                raise WorkerDied(await self._ended)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def order(self, ids: Sequence[str], seed: str, at_once: int) -> None:
        """Tell the worker to run one task for each of ``ids``.

        Raises:
            WorkerDied: it has ended.
        """
        stdin = _pipe(self._process.stdin)
        order = json.dumps({"ids": ids, "seed": seed, "at_once": at_once})
        try:
            stdin.write(order.encode() + b"\n")
            await stdin.drain()
        except ConnectionError as exc:
            raise WorkerDied(await self._ended) from exc

    async def alive_during(self, waiting: asyncio.Future[T]) -> T:
        """Return the result of ``waiting``; raise ``WorkerDied`` if the worker ends first."""
        either: list[asyncio.Future[Any]] = [waiting, self._ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise WorkerDied(self._ended.result())
        return waiting.result()

    async def close(self) -> None:
        """End the process: closing its input ends it; otherwise it is killed."""
        process, stdin = self._process, _pipe(self._process.stdin)
        stdin.close()
        try:
            async with asyncio.timeout(3):
                await asyncio.shield(self._ended)
        except TimeoutError:
            process.kill()
            await self._ended
        await _pipe(process.stdout).read()  # to its end, which closes it
        with suppress(ConnectionError):
            await stdin.wait_closed()


async def _ending(process: asyncio.subprocess.Process) -> str:
    """Wait for a process to end, and return how it ended."""
    _, stderr = await asyncio.gather(process.wait(), _pipe(process.stderr).read())
    code = process.returncode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f"the worker, process {process.pid}, {how}{': ' + lines[-1] if lines else ''}"


def _pipe(pipe: Pipe | None) -> Pipe:
    """Return a stream of the process; it exists, because it was requested at the start."""
    if pipe is None:
        raise WorkerDied("the worker was started without pipes")
    return pipe
