"""A producer without Celery: ``python -m examples.tokens.runner ID`` runs a generator as a task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from aioresult import Backend, TaskRunner
from examples.tokens.text import SECONDS_PER_WORD, WORDS, store_url


async def say() -> AsyncIterator[str]:
    for word in WORDS:
        await asyncio.sleep(SECONDS_PER_WORD)
        yield word


async def main(task_id: str) -> None:
    async with Backend(store_url()) as backend, TaskRunner(backend) as runner:
        runner.with_options(task_id=task_id)(say)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
