"""This library, through its public interface only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import aioresult
from aioresult import AsyncResult, Backend, sync
from benchmarks.contestants.base import Contestant

_NO_OTHERS = {"database_trigger": False}
"""On PostgreSQL, what Celery's workers store would be polled beside the push; here, nobody but aioresult stores."""


class AioResult(Contestant):
    """aioresult by push or, with ``push=False``, by its polling feed.

    The option ``join`` chooses among its ways to wait for many; all other options are settings.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        super().__init__(url, options)
        self.restless = options.get("push") is False
        self._join = str(options.get("join", "gather"))
        settings = {name: value for name, value in options.items() if name != "join"}
        self.backend = Backend(url, **{**_NO_OTHERS, **settings})

    async def open(self) -> None:
        await self.backend.ping()

    async def close(self) -> None:
        await self.backend.aclose()

    def wait(self, task: str, timeout: float | None = None) -> Coroutine[Any, Any, object]:
        result: AsyncResult[object] = AsyncResult(task, self.backend)
        return result.get(timeout)

    async def store(self, task: str, value: object) -> None:
        await self.backend.store_result(task, value, "SUCCESS")

    async def join(self, tasks: Sequence[str]) -> list[object]:
        results: list[AsyncResult[object]] = [AsyncResult(task, self.backend) for task in tasks]
        if self._join == "as_completed":
            values = {result.id: await result.get() async for result in aioresult.as_completed(results)}
            return [values[task] for task in tasks]
        if self._join == "GroupResult.join":
            return list(await self.backend.GroupResult("group", results).join())
        return list(await aioresult.gather(*results))

    def blocking(self) -> Callable[[str], object]:
        backend = sync.Backend(self.url, **_NO_OTHERS)

        def get(task: str) -> object:
            result: sync.AsyncResult[object] = sync.AsyncResult(task, backend)
            return result.get()

        return get

    def commands(self) -> int:
        return self.backend.stats().commands
