"""The task: says one word after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aioresult import progress

WORDS = "Anything that streams bytes can send these events to a browser.".split()


async def tell(seconds_per_word: float) -> AsyncIterator[str]:
    for number, word in enumerate(WORDS, 1):
        await asyncio.sleep(seconds_per_word)
        yield word
        progress(number, len(WORDS))
