"""resumable-stream: a generator in the producer's process, whose text reaches readers elsewhere by publish/subscribe.

It is run in an environment of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from benchmarks.contestants.base import Contestant

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class ResumableStream(Contestant):
    """``create_new_resumable_stream`` in the producer, ``resume_existing_stream`` for each reader."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        super().__init__(url, options)
        self._given: dict[str, asyncio.Queue[tuple[str, asyncio.Future[None]]]] = {}

    async def open(self) -> None:
        import resumable_stream  # type: ignore[import-not-found, unused-ignore]  # it is in an environment of its own

        publisher = resumable_stream.RedisPublisher(self.url)
        subscriber = resumable_stream.RedisSubscriber(self.url)
        await publisher.connect()
        await subscriber.connect()
        self._ends = (publisher, subscriber)
        self._context = resumable_stream.create_resumable_stream_context(publisher=publisher, subscriber=subscriber)

    async def close(self) -> None:
        for end in self._ends:
            await end.close()

    async def begin(self, task: str) -> None:
        given = self._given[task] = asyncio.Queue()

        async def produce() -> AsyncGenerator[str, None]:
            while True:
                text, sent = await given.get()
                yield text
                sent.set_result(None)  # the next item is requested when this one has been published to every reader

        await self._context.create_new_resumable_stream(task, produce)

    async def items(self, task: str) -> AsyncGenerator[object, None]:
        texts = await self._context.resume_existing_stream(task)
        try:
            async for text in texts:
                for line in text.splitlines():  # missed items arrive in one piece
                    yield _decode(line)
        finally:
            await texts.aclose()

    async def append(self, task: str, value: object) -> None:
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given[task].put_nowait((_encode(value).decode() + "\n", sent))
        await sent
