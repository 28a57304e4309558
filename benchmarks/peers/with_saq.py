"""SAQ on Redis: ``await queue.apply()``, which enqueues and waits."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from saq import Queue, Worker
from talk import PATIENCE, finished, serve_async

queue = Queue.from_url(sys.argv[2])


async def finish(_ctx: Any, *, number: int, pause: float) -> dict[str, Any]:
    await asyncio.sleep(pause)
    return finished(number)


class Client:
    async def open(self) -> None:
        await queue.connect()

    async def enqueue(self, number: int, pause: float) -> Any:
        return number, pause

    async def result(self, handle: Any) -> Any:
        number, pause = handle
        return await queue.apply("finish", timeout=PATIENCE, number=number, pause=pause)


async def work() -> None:
    await Worker(queue, functions=[finish]).start()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work())
    else:
        serve_async(Client())
