"""This library, through its public interface only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import aioresult
from aioresult import AsyncResult, Backend, Item, TaskRunner, sync
from benchmarks.contestants.base import Contestant, Items

_NO_OTHERS = {"database_trigger": False}
"""On PostgreSQL, results of Celery's workers would be polled in addition to the push; here only aioresult stores."""


_TOGETHER = 500
"""Items of one call when a stream is filled beforehand."""


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

    def runner(self) -> TaskRunner:
        return TaskRunner(self.backend)

    async def revoke(self, task: str) -> bool:
        return await self.backend.AsyncResult(task).revoke()

    def keeps_streams(self) -> bool:
        return self.backend._runtime.store.keeps_streams

    def items(self, task: str) -> Items:
        result: AsyncResult[object] = AsyncResult(task, self.backend)
        return result.stream()

    def value_of_item(self, item: object) -> object:
        assert isinstance(item, Item)
        return item.value

    async def append(self, task: str, value: object) -> None:
        await self.backend.append(task, value)

    async def fill(self, task: str, values: Sequence[object]) -> None:
        for start in range(0, len(values), _TOGETHER):
            await self.backend.append(task, *values[start : start + _TOGETHER])
        await self.backend.store_result(task, None, "SUCCESS")

    async def replay(self, task: str, count: int) -> list[object]:
        del count  # the stream ends by itself
        result: AsyncResult[object] = AsyncResult(task, self.backend)
        return [item async for item in result.stream()]

    def commands(self) -> int:
        return self.backend.stats().commands
