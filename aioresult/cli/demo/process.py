"""The worker's process, as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Sequence
from typing import Any, Self, TypeVar

from aioresult.batching import owned_task
from aioresult.cli.demo.worker import SETTINGS_VARIABLE
from aioresult.errors import AioResultError

T = TypeVar("T")


class WorkerDied(AioResultError):
    """Raised when the second process ends before its tasks do."""


class Worker:
    """A second process that runs tasks and stores their results.

    Args:
        url: the store; handed over by the environment, where other users cannot see its password.
        settings: settings of its backend.
    """

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self._environment = {**os.environ, "AIORESULT_URL": url, SETTINGS_VARIABLE: json.dumps(settings)}
        self._process: asyncio.subprocess.Process | None = None
        self._ended: asyncio.Task[str] | None = None

    async def __aenter__(self) -> Self:
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aioresult.cli.demo.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        assert process.stdout is not None  # noqa: S101  (for the type checker: it is a pipe)
        try:
            if await process.stdout.readline() != b"ready\n":
                raise WorkerDied(await self._obituary())
        except BaseException:
            await self.close()
            raise
        self._ended = owned_task(self._obituary(), "aioresult demo worker")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid if self._process is not None else 0

    async def order(self, ids: Sequence[str], seed: str, at_once: int) -> None:
        """Let the worker run one task for each of ``ids``."""
        if self._process is None or self._process.stdin is None:
            raise WorkerDied("the worker was not started")
        try:
            self._process.stdin.write(json.dumps({"ids": ids, "seed": seed, "at_once": at_once}).encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError as exc:
            raise WorkerDied(await self._obituary()) from exc

    async def outlived_by(self, waiting: Awaitable[T]) -> T:
        """Return what ``waiting`` gives, or raise ``WorkerDied`` as soon as the worker ends before that."""
        task = asyncio.ensure_future(waiting)
        ended = self._ended
        if ended is None:
            raise WorkerDied("the worker was not started")
        try:
            await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise WorkerDied(ended.result())
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _obituary(self) -> str:
        """Wait for the process to end, and return how it did."""
        if self._process is None or self._process.stderr is None:
            return "the worker was not started"
        last_words = (await self._process.stderr.read()).decode(errors="replace").strip().splitlines()
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the worker, process {self.pid}, {how}{': ' + last_words[-1] if last_words else ''}"

    async def close(self) -> None:
        """End the process: it ends with its input, and is killed if it does not."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(3):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._ended is not None:
            await self._ended
