"""SAQ on Redis: ``await queue.apply()``, which enqueues and waits; with ``refresh``: ``await job.refresh()``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from saq import Queue, Worker
from talk import PATIENCE, finished, serve_async

queue = Queue.from_url(sys.argv[2], name="listening" if "refresh" in sys.argv[3:] else "default")
listening = "refresh" in sys.argv[3:]


async def finish(_ctx: Any, *, number: int, pause: float) -> dict[str, Any]:
    await asyncio.sleep(pause)
    return finished(number)


class Client:
    async def open(self) -> None:
        await queue.connect()

    async def enqueue(self, number: int, pause: float) -> Any:
        if not listening:
            return number, pause
        return await queue.enqueue("finish", timeout=PATIENCE, number=number, pause=pause)

    async def result(self, handle: Any) -> Any:
        if listening:
            await handle.refresh(until_complete=PATIENCE)
            return handle.result
        number, pause = handle
        return await queue.apply("finish", timeout=PATIENCE, number=number, pause=pause)


async def work() -> None:
    await Worker(queue, functions=[finish]).start()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work())
    else:
        serve_async(Client())
