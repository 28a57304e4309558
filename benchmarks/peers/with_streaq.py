"""streaQ: ``await task.result()``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from streaq import Worker
from talk import PATIENCE, finished, serve_async

worker: Worker[None] = Worker(redis_url=sys.argv[2])


@worker.task
async def finish(number: int, pause: float) -> dict[str, Any]:
    await asyncio.sleep(pause)
    return finished(number)


class Client:
    async def open(self) -> None:
        await worker.__aenter__()  # until this process ends

    async def enqueue(self, number: int, pause: float) -> Any:
        return await finish.enqueue(number, pause)

    async def result(self, handle: Any) -> Any:
        return (await handle.result(timeout=PATIENCE)).result


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker.run_sync()
    else:
        serve_async(Client())
