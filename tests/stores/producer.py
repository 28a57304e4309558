"""A process with a runner, for tests that kill or freeze it: ``python -m tests.stores.producer URL LEASE ID``.

It prints ``begun`` when its task runs, ``stopped`` when that was cancelled, and ``ended`` when it returns: it does so
once there is a line on standard input. At the end it prints how many results it lost.
"""

from __future__ import annotations

import asyncio
import sys

import aioresult
from aioresult import AioResultError, Backend, TaskRunner


def say(line: str) -> None:
    print(line, flush=True)


async def work() -> str:
    aioresult.emit("first")
    await aioresult.flush()
    say("begun")
    try:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    except asyncio.CancelledError:
        say("stopped")
        raise
    say("ended")
    return "value"


async def main(url: str, lease: float, task_id: str) -> None:
    async with Backend(url) as backend:
        try:
            async with TaskRunner(backend, lease=lease) as runner:
                runner.with_options(task_id=task_id, once=True)(work)
        except AioResultError as exc:
            say(f"lost: {exc}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
