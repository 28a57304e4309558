"""Somebody who stops a task that another process runs: ``python -m examples.tokens.stop ID REASON``.

The command ``aioresult revoke ID --reason TEXT`` does the same.
"""

from __future__ import annotations

import asyncio
import sys

from aioresult import Backend
from examples.tokens.text import store_url


async def main(task_id: str, reason: str) -> None:
    async with Backend(store_url()) as backend:
        stopped = await backend.AsyncResult(task_id).revoke(reason)
        print("stopped" if stopped else "was final already")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
