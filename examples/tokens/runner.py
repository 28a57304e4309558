"""A producer without Celery: ``python -m examples.tokens.runner ID [TIMES]`` runs a generator as a task.

Started again with the same id, by a request that is repeated or a page that reconnects, it attaches to the task that is
there: it says nothing itself, and waits for the same end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from aioresult import Backend, TaskRunner
from examples.tokens.text import LEASE, LOOK, SECONDS_PER_WORD, WORDS, store_url


async def say(times: float) -> AsyncIterator[str]:
    while times > 0:
        times -= 1
        for word in WORDS:
            await asyncio.sleep(SECONDS_PER_WORD)
            yield word


async def main(task_id: str, times: float = 1) -> None:
    async with Backend(store_url(), fallback_interval=LOOK) as backend, TaskRunner(backend, lease=LEASE) as runner:
        result = runner.with_options(task_id=task_id, once=True)(say, times)
        await result.get(timeout=60, propagate=False)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(float, sys.argv[2:])))
