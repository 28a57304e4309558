"""arq: ``await job.result()``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from talk import PATIENCE, finished, serve_async

settings = RedisSettings.from_dsn(sys.argv[2])


async def finish(_ctx: dict[Any, Any], number: int, pause: float) -> dict[str, Any]:
    await asyncio.sleep(pause)
    return finished(number)


class Client:
    async def open(self) -> None:
        self._pool = await create_pool(settings)

    async def enqueue(self, number: int, pause: float) -> Any:
        return await self._pool.enqueue_job("finish", number, pause)

    async def result(self, handle: Any) -> Any:
        return await handle.result(timeout=PATIENCE)


async def work() -> None:
    # The pause before a job starts is not measured; a shorter one only saves time.
    await Worker([finish], redis_settings=settings, poll_delay=0.05, log_results=False).main()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work())
    else:
        serve_async(Client())
