"""docket: ``await execution.get_result()``."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any

from docket import Docket, Worker
from talk import PATIENCE, finished, serve_async


async def finish(number: int, pause: float) -> dict[str, Any]:
    await asyncio.sleep(pause)
    return finished(number)


class Client:
    async def open(self) -> None:
        self.docket = Docket(name="benchmark", url=sys.argv[2])
        await self.docket.__aenter__()  # until this process ends

    async def enqueue(self, number: int, pause: float) -> Any:
        return await self.docket.add(finish)(number, pause)

    async def result(self, handle: Any) -> Any:
        return await handle.get_result(timeout=timedelta(seconds=PATIENCE))


async def work() -> None:
    async with Docket(name="benchmark", url=sys.argv[2]) as docket:
        docket.register(finish)
        async with Worker(docket) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work())
    else:
        serve_async(Client())
