"""The whole example: two producers and three readers of each, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from examples.tokens.text import WORDS

KILLED_AFTER = 4


async def start(*module: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", *module, stdout=asyncio.subprocess.PIPE)


@asynccontextmanager
async def celery_worker() -> AsyncIterator[None]:
    command = ["celery", "-A", "examples.tokens.worker", "worker", "--pool", "solo", "--loglevel", "WARNING"]
    worker = await start(*command, "--without-gossip", "--without-mingle", "--without-heartbeat")
    try:
        yield
    finally:
        worker.terminate()
        await worker.communicate()


async def read(name: str, task_id: str, after: int = 0, *, at_most: int | None = None) -> list[tuple[int, str]]:
    """Start a reader and return what it prints; kill it after ``at_most`` items."""
    reader = await start("examples.tokens.reader", task_id, str(after))
    assert reader.stdout is not None
    seen: list[tuple[int, str]] = []
    async for line in reader.stdout:
        number, _, word = line.decode().strip().partition(" ")
        seen.append((int(number), word))
        print(f"{name:>24}  {number:>2} {word}")
        if len(seen) == at_most:
            reader.kill()
    await reader.wait()
    return seen


async def interrupted(name: str, task_id: str) -> list[tuple[int, str]]:
    """Read until the reader is killed, and go on with another one behind its last number."""
    seen = await read(f"{name}, killed", task_id, at_most=KILLED_AFTER)
    return seen + await read(f"{name}, continued", task_id, seen[-1][0])


async def follow(name: str, task_id: str) -> None:
    """Have a task read by three readers, and compare what they got."""
    steady, killed = await asyncio.gather(read(name, task_id), interrupted(name, task_id))
    late = await read(f"{name}, late", task_id)
    expected = list(enumerate(WORDS, 1))
    assert steady == late == expected, "a reader has missed something, or got something twice"
    assert list(dict.fromkeys(killed)) == expected
    print(f"{name}: each of three readers got {len(WORDS)} words, once and in order")


async def main() -> None:
    from examples.tokens.worker import say  # whose queue is in the folder that is chosen below

    task_id = f"runner-{uuid4()}"
    async with celery_worker():
        runner = await start("examples.tokens.runner", task_id)
        published = say.delay()
        await asyncio.gather(follow("runner", task_id), follow("Celery", published.id))
        await runner.wait()


if __name__ == "__main__":
    os.environ.setdefault("C_FORCE_ROOT", "1")
    with tempfile.TemporaryDirectory(prefix="tokens-") as folder:
        os.environ.setdefault("DATA", folder)
        asyncio.run(main())
