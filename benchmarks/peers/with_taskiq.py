"""taskiq with taskiq-redis: ``await task.wait_result()``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from talk import PATIENCE, finished, serve_async
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

url = sys.argv[2]
broker: AsyncBroker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url))


@broker.task(task_name="finish")
async def finish(number: int, pause: float) -> dict[str, Any]:
    await asyncio.sleep(pause)
    return finished(number)


class Client:
    async def open(self) -> None:
        await broker.startup()

    async def enqueue(self, number: int, pause: float) -> Any:
        return await finish.kiq(number, pause)

    async def result(self, handle: Any) -> Any:
        return (await handle.wait_result(timeout=PATIENCE)).return_value


async def work() -> None:
    broker.is_worker_process = True
    await broker.startup()
    await run_receiver_task(broker)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work())
    else:
        serve_async(Client())
