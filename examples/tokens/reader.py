"""A reader: ``python -m examples.tokens.reader ID [AFTER]`` prints each item, a line each, until the task is final.

Killed in the middle, it is started again with the number that it printed last. Where the task was stopped, or its
producer is gone, the last line says so.
"""

from __future__ import annotations

import asyncio
import sys

from aioresult import Backend, TaskLost, TaskRevokedError
from examples.tokens.text import LOOK, store_url


async def main(task_id: str, after: int) -> None:
    async with Backend(store_url(), fallback_interval=LOOK) as backend:
        try:
            async for item in backend.AsyncResult(task_id).stream(after, timeout=60):
                print(item.seq, item.value, flush=True)
        except (TaskRevokedError, TaskLost) as exc:
            print("end", type(exc).__name__, exc)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
