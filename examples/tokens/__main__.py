"""The whole example: two producers and three readers of each, then one that is stopped, one that is started twice, and
one that is killed; all of them processes of their own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import cycle, islice
from uuid import uuid4

from examples.tokens.text import WORDS

KILLED_AFTER = 4
Seen = list[tuple[int, str]]


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


async def lines(
    name: str, task_id: str, after: int = 0, *, at_most: int | None = None
) -> AsyncIterator[tuple[str, str]]:
    """Start a reader and yield what it prints: a number and a word; kill it after ``at_most`` lines."""
    reader = await start("examples.tokens.reader", task_id, str(after))
    assert reader.stdout is not None
    count = 0
    async for line in reader.stdout:
        number, _, word = line.decode().strip().partition(" ")
        print(f"{name:>24}  {number:>3} {word}")
        yield number, word
        count += 1
        if count == at_most:
            reader.kill()
    await reader.wait()


async def read(name: str, task_id: str, after: int = 0, *, at_most: int | None = None) -> Seen:
    """Start a reader and return what it has read; kill it after ``at_most`` items."""
    return [(int(number), word) async for number, word in lines(name, task_id, after, at_most=at_most)]


async def read_to_its_end(name: str, task_id: str, then: Callable[[], Awaitable[None]]) -> tuple[Seen, str]:
    """Read a task that does not come to its own end, and return what was said and how it ended.

    Args:
        name: for the output.
        task_id: the task's id.
        then: is done once a few words have been read.
    """
    seen: Seen = []
    end = ""
    async for number, word in lines(name, task_id):
        if number == "end":
            end = word
            continue
        seen.append((int(number), word))
        if len(seen) == KILLED_AFTER:
            await then()
    return seen, end


async def interrupted(name: str, task_id: str) -> Seen:
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


def endless(count: int) -> Seen:
    """Return the first words of a producer that begins its sentence again and again."""
    return list(islice(enumerate(cycle(WORDS), 1), count))


async def stopped() -> None:
    """A third process stops the task: its producer is cancelled, its reader is told why."""
    task_id = f"stopped-{uuid4()}"

    async def stop() -> None:
        await (await start("examples.tokens.stop", task_id, "heard enough")).communicate()

    producer = await start("examples.tokens.runner", task_id, "inf")
    seen, end = await read_to_its_end("stopped", task_id, stop)
    assert await producer.wait() == 0, "the producer ends by itself, since its only task was cancelled"
    assert seen == endless(len(seen))
    assert end == "TaskRevokedError heard enough", end
    print("stopped: the reader was told why, and the producer has ended")


async def started_twice() -> None:
    """A start that is repeated attaches to the task that is there."""
    task_id = f"twice-{uuid4()}"
    producers = [await start("examples.tokens.runner", task_id) for _ in range(2)]
    seen = await read("started twice", task_id)
    assert [await producer.wait() for producer in producers] == [0, 0]
    assert seen == list(enumerate(WORDS, 1)), "the work was done more than once, or not at all"
    print("started twice: said once, and both starters have seen the end")


async def killed() -> None:
    """The producer is killed: those who read are told once its lease has ended."""
    task_id = f"killed-{uuid4()}"
    producer = await start("examples.tokens.runner", task_id, "inf")

    async def kill() -> None:
        producer.kill()

    seen, end = await read_to_its_end("producer killed", task_id, kill)
    await producer.wait()
    assert seen == endless(len(seen))
    assert end.startswith(f"TaskLost task {task_id!r} is lost"), end
    print("producer killed: the reader was told that the task is lost")


async def main() -> None:
    from examples.tokens.worker import say  # whose queue is in the folder that is chosen below

    task_id = f"runner-{uuid4()}"
    async with celery_worker():
        runner = await start("examples.tokens.runner", task_id)
        published = say.delay()
        await asyncio.gather(follow("runner", task_id), follow("Celery", published.id))
        await runner.wait()
    await asyncio.gather(stopped(), started_twice(), killed())


if __name__ == "__main__":
    os.environ.setdefault("C_FORCE_ROOT", "1")
    with tempfile.TemporaryDirectory(prefix="tokens-") as folder:
        os.environ.setdefault("DATA", folder)
        asyncio.run(main())
