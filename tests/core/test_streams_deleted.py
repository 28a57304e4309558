"""A stream that is deleted while it is read: who was further is told so, and who comes then reads the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aioresult import Backend, StreamGap
from aioresult.stream import Chunk, Cursor

TURNS = 200


async def next_value(stream: Any) -> object:
    return (await anext(stream)).value


async def test_a_new_reader_beside_one_that_was_further_waits_and_does_not_ask_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Backend("memory://") as backend:
        await backend.append("task", 1, 2, 3)
        further = backend.AsyncResult("task").stream()
        assert [await next_value(further) for _ in range(3)] == [1, 2, 3]
        waiting = asyncio.create_task(next_value(further))
        await asyncio.sleep(0)
        await backend.forget("task")
        reads: list[Sequence[Cursor]] = []
        store = backend._runtime.store
        read_many = store.read_many

        async def counted(cursors: Sequence[Cursor]) -> Sequence[Chunk]:
            reads.append(cursors)
            return await read_many(cursors)

        monkeypatch.setattr(store, "read_many", counted)
        fresh = backend.AsyncResult("task").stream()
        first = asyncio.create_task(next_value(fresh))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert len(reads) <= 5, "it waits for news"
        with pytest.raises(StreamGap):
            await waiting
        await backend.append("task", "new")
        assert await first == "new"
        await fresh.aclose()


async def test_a_reader_behind_the_end_of_a_stream_that_is_read_by_others_is_told_so() -> None:
    async with Backend("memory://") as backend:
        await backend.append("task", 1)
        other = backend.AsyncResult("task").stream()
        assert await next_value(other) == 1
        waiting = asyncio.create_task(next_value(other))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        with pytest.raises(StreamGap, match="ends at item 1"):
            await next_value(backend.AsyncResult("task").stream(after=7))
        await backend.append("task", 2)
        assert await waiting == 2
        await other.aclose()
