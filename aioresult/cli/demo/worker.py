"""The demo's second process: runs the tasks that it reads from its standard input, and stores their results.

One JSON object a line: ``{"ids": [...], "seed": ..., "at_once": ...}``. It prints ``ready`` when its store is open, and
ends at the end of its input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from typing import Any, Final

from aioresult.backend import Backend
from aioresult.reporting import progress
from aioresult.runner import TaskRunner

STEPS: Final = 8
"""How often a task reports its progress."""
SETTINGS_VARIABLE: Final = "AIORESULT_DEMO_SETTINGS"


def expected_value(seed: str, number: int) -> str:
    """Return what task ``number`` computes."""
    return hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()


async def work(seed: str, number: int) -> dict[str, Any]:
    """Report progress, and return the value and the moment at which it was ready to be stored.

    The moment is read from the machine's monotonic clock, which all its processes share.
    """
    jitter = random.Random(f"{seed}:{number}")
    for step in range(STEPS):
        progress(step, STEPS)
        await asyncio.sleep(jitter.uniform(0.03, 0.12))
    return {"number": number, "value": expected_value(seed, number), "stored_at": time.monotonic_ns()}


async def main() -> None:
    """Serve the parent process until it closes our standard input."""
    settings = json.loads(os.environ.get(SETTINGS_VARIABLE, "{}"))
    async with Backend(os.environ["AIORESULT_URL"], **settings) as backend:
        await backend.ping()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            async with TaskRunner(backend, max_running=order["at_once"]) as runner:
                for number, task_id in enumerate(order["ids"]):
                    runner.with_options(task_id=task_id)(work, order["seed"], number)


if __name__ == "__main__":
    asyncio.run(main())
