"""MongoDB on bare PyMongo: inserts, and one change stream that brings the whole document."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pymongo import AsyncMongoClient

from benchmarks.contestants.base import Contestant
from benchmarks.values import value_of

_GROUP = 1000
Document = dict[str, Any]


class BareMongo(Contestant):
    """``insert_one`` to store, a change stream to wait, ``find_one`` to read."""

    async def open(self) -> None:
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(self.url)
        self._results = self._client.get_default_database()["floor_results"]
        self._waiters: dict[str, asyncio.Future[object]] = {}
        self._stream = await self._results.watch([{"$match": {"operationType": "insert"}}])
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._stream.close()
        await self._client.close()

    async def _read(self) -> None:
        async for event in self._stream:
            waiter = self._waiters.pop(event["documentKey"]["_id"], None)
            if waiter is not None:
                waiter.set_result(event["fullDocument"]["result"])

    async def wait(self, task: str, timeout: float | None = None) -> object:
        future = self._waiters[task] = asyncio.get_running_loop().create_future()
        return await future

    async def store(self, task: str, value: object) -> None:
        await self._results.insert_one({"_id": task, "status": "SUCCESS", "result": value})

    async def read(self, task: str) -> object:
        return await self._results.find_one(task)

    def decoded(self, value: object) -> object:
        assert isinstance(value, dict)
        return value["result"]

    def prepare(self, tasks: Sequence[str]) -> list[list[Document]]:
        documents = [{"_id": task, "status": "SUCCESS", "result": value_of(task)} for task in tasks]
        return [documents[start : start + _GROUP] for start in range(0, len(documents), _GROUP)]

    async def store_all(self, prepared: list[list[Document]]) -> None:
        for group in prepared:
            await self._results.insert_many(group, ordered=False)
