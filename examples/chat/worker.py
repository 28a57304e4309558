"""The worker: each question is a task, each word of the answer an item of the task's stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress

from aioresult import TaskRunner, progress
from examples.chat.store import LEASE, QUESTIONS, backend

SECONDS_PER_WORD = float(os.environ.get("SECONDS_PER_WORD", "0.2"))
ANSWER = """
You asked: “{question}” There is no model behind this page, so here is how the words come to you. A worker says
them, one after the other, and each of them gets a number from the store. The web server does not remember any. It
waits until the store tells it that there is a new one, and sends it to your browser together with the number. When
the connection breaks, your browser connects again and names the last number that it has seen. So you may reload
this page, open it twice, switch the network off, or restart the web server. No word is missing, and none comes
twice.
"""


async def answer(question: str) -> AsyncIterator[str]:
    """Say the answer word by word. A question that has the word "fail" in it ends with an error."""
    words = ANSWER.format(question=question).split()
    for number, word in enumerate(words, 1):
        await asyncio.sleep(SECONDS_PER_WORD)
        yield f"{word} "
        progress(number, len(words))
        if "fail" in question and number == len(words) // 4:
            raise RuntimeError("the question asks for a failure")


async def main() -> None:
    """Take questions for ever. A worker that is new reads all of them again: ``once`` does none a second time."""
    async with backend() as store, TaskRunner(store, lease=LEASE) as runner:
        async for question in store.AsyncResult(QUESTIONS).stream():
            start = runner.with_options(task_id=question.value["id"], once=True)
            start(answer, question.value["text"])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
