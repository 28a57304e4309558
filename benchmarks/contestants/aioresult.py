"""This library, through its public interface only."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import aioresult
from aioresult import AsyncResult, Backend
from benchmarks.contestants.base import Contestant


class AioResult(Contestant):
    """aioresult by push or, with ``push=False``, by its polling feed."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        super().__init__(url, options)
        self.backend = Backend(url, **options)

    async def open(self) -> None:
        await self.backend.ping()

    async def close(self) -> None:
        await self.backend.aclose()

    def wait(self, task: str, timeout: float | None = None) -> Coroutine[Any, Any, object]:
        return AsyncResult[object](task, self.backend).get(timeout)

    async def store(self, task: str, value: object) -> None:
        await self.backend.store_result(task, value, "SUCCESS")

    async def join(self, tasks: Sequence[str]) -> list[object]:
        return list(await aioresult.gather(*[AsyncResult[object](task, self.backend) for task in tasks]))

    def commands(self) -> int:
        return self.backend.stats().commands
