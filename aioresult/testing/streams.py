"""The part of the conformance suite that is about streams."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
import pytest_asyncio

from aioresult import (
    Backend,
    EncodeError,
    ResultTimeout,
    ResultTooLarge,
    StreamEnded,
    StreamFull,
    StreamGap,
    Unsupported,
)
from aioresult.stream import Append, Cursor, now
from aioresult.testing.fixtures import PATIENCE, StoreFixtures, Tasks, fresh_id


async def read(backend: Backend, task_id: str, after: int = 0, **options: Any) -> list[tuple[int, Any]]:
    """Return the numbers and values that a reader gets, up to the end."""
    options = {"timeout": PATIENCE, "propagate": False, **options}
    return [(item.seq, item.value) async for item in backend.AsyncResult(task_id).stream(after, **options)]


async def read_until_an_error(backend: Backend, task_id: str, timeout: float) -> tuple[list[Any], Exception | None]:
    """Return the values that a reader gets, and the error that ends the stream."""
    seen: list[Any] = []
    try:
        async for item in backend.AsyncResult(task_id).stream(timeout=timeout):
            seen.append(item.value)  # noqa: PERF401  (values before an error count)
    except Exception as exc:  # noqa: BLE001  (the caller checks it)
        return seen, exc
    return seen, None


def numbered(values: list[Any], after: int = 0) -> list[tuple[int, Any]]:
    """Return ``values`` with the numbers that a stream gives them."""
    return list(enumerate(values, 1))[after:]


class StreamTests(StoreFixtures):
    """Tests of every promise about streams. A store without them must say so."""

    @pytest_asyncio.fixture
    async def task_id(self, backend: Backend) -> str:
        """Give an unused id, if the store keeps streams."""
        if not backend._runtime.store.keeps_streams:
            pytest.skip(f"{backend._runtime.store.location} keeps no streams")
        return fresh_id()

    async def test_a_store_without_streams_says_so_at_once(self, backend: Backend) -> None:
        if backend._runtime.store.keeps_streams:
            return
        with pytest.raises(Unsupported, match="keeps no streams"):
            await backend.append("a", 1)
        with pytest.raises(Unsupported, match="keeps no streams"):
            await read(backend, "a")

    async def test_items_are_numbered_from_one_and_come_back_as_they_were(self, backend: Backend, task_id: str) -> None:
        texts = ["", "nul\x00inside", "line\nbreak", "\U0001f600", "x" * 9_000]
        values: list[Any] = ["to", "ken", None, {"a": [1, 2.5]}, *texts]
        assert await backend.append(task_id, *values[:2]) == 2
        assert await backend.append(task_id, *values[2:]) == len(values)
        await backend.mark_as_done(task_id, "over")
        assert await read(backend, task_id) == numbered(values)
        assert await read(backend, task_id, after=4) == numbered(values, after=4)
        assert await read(backend, task_id, after=len(values)) == []

    async def test_an_item_says_when_it_was_appended_and_by_which_attempt(self, backend: Backend, task_id: str) -> None:
        before = now()
        await backend.append(task_id, "first")
        await backend.append(task_id, "second", attempt=1)
        after = now()
        await backend.mark_as_done(task_id, None)
        items = [item async for item in backend.AsyncResult(task_id).stream(timeout=PATIENCE)]
        assert [item.attempt for item in items] == [0, 1]
        assert before <= items[0].at.timestamp() < items[1].at.timestamp() <= after

    async def test_readers_that_come_before_during_and_after_get_everything_once(
        self, backend: Backend, other: Backend, task_id: str, tasks: Tasks
    ) -> None:
        # A backend keeps the newest 64 items in memory; the last late readers begin before these.
        values = list(range(120))
        early = [tasks.begin(read(backend, task_id)) for _ in range(3)]
        late: list[asyncio.Task[list[tuple[int, Any]]]] = []
        for value in values:
            await other.append(task_id, value)
            if value % 30 == 10:
                late += [tasks.begin(read(reader, task_id, after=value // 3)) for reader in (backend, other)]
        await other.mark_as_done(task_id, "over")
        assert await asyncio.gather(*early) == [numbered(values)] * 3
        for number, found in enumerate(await asyncio.gather(*late)):
            assert found == numbered(values, after=(10 + number // 2 * 30) // 3)
        assert await read(backend, task_id) == numbered(values)

    async def test_an_item_reaches_a_reader_that_waits(
        self, backend: Backend, other: Backend, task_id: str, tasks: Tasks
    ) -> None:
        stream = backend.AsyncResult(task_id).stream(timeout=PATIENCE)
        try:
            for number in range(1, 20):
                reading = tasks.begin(anext(stream))
                for _ in range(number):
                    await asyncio.sleep(0)
                await other.append(task_id, number)
                assert ((item := await reading).seq, item.value) == (number, number)
        finally:
            await tasks.aclose()  # a generator that is being read cannot be closed
            await stream.aclose()

    async def test_several_producers_leave_no_gap_and_each_keeps_its_order(
        self, backend: Backend, other: Backend, task_id: str, tasks: Tasks
    ) -> None:
        async def produce(producer: Backend, name: str) -> list[int]:
            return [await producer.append(task_id, [name, number]) for number in range(50)]

        reading = tasks.begin(read(backend, task_id))
        numbers = await asyncio.gather(*(produce(p, n) for p, n in ((backend, "a"), (backend, "b"), (other, "c"))))
        await backend.mark_as_done(task_id, None)
        found = await reading
        assert sorted(number for own in numbers for number in own) == list(range(1, 151))
        assert [seq for seq, _ in found] == list(range(1, 151))
        for name, own in zip("abc", numbers, strict=True):
            assert [(seq, value[1]) for seq, value in found if value[0] == name] == list(
                zip(own, range(50), strict=True)
            )

    async def test_appends_of_one_turn_to_many_streams_are_one_call(self, backend: Backend, task_id: str) -> None:
        await backend.append(task_id, "warm")
        before = backend._runtime.store.commands
        ids = [f"{task_id}-{number}" for number in range(20)]
        lasts = await asyncio.gather(*(backend.append(one, step) for step in range(5) for one in ids))
        assert lasts == [step for step in range(1, 6) for _ in ids]
        assert backend._runtime.store.commands - before <= 20 * 5

    async def test_appending_to_a_final_task_is_refused(self, backend: Backend, task_id: str) -> None:
        await backend.append(task_id, 1)
        await backend.mark_as_done(task_id, None)
        with pytest.raises(StreamEnded, match=task_id):
            await backend.append(task_id, 2)
        assert await read(backend, task_id) == [(1, 1)]

    async def test_a_refused_append_hurts_no_other_stream_of_its_turn(self, backend: Backend, task_id: str) -> None:
        await backend.mark_as_done(task_id, None)
        appends = [backend.append(one, 1) for one in (f"{task_id}-1", task_id, f"{task_id}-2")]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert [1 if outcome == 1 else type(outcome) for outcome in outcomes] == [1, StreamEnded, 1]

    async def test_what_is_appended_and_ended_in_one_turn_is_done_in_that_order(
        self, backend: Backend, task_id: str
    ) -> None:
        calls = (backend.append(task_id, 1, 2), backend.append(task_id, 3), backend.mark_as_done(task_id, "over"))
        assert list(await asyncio.gather(*calls)) == [2, 3, 1]
        assert await read(backend, task_id) == numbered([1, 2, 3])

    async def test_a_failed_task_raises_at_the_end_of_its_stream(self, backend: Backend, task_id: str) -> None:
        await backend.append(task_id, 1)
        await backend.mark_as_failure(task_id, KeyError("why"))
        seen, error = await read_until_an_error(backend, task_id, PATIENCE)
        assert (seen, repr(error)) == ([1], "KeyError('why')")
        assert await read(backend, task_id, propagate=False) == [(1, 1)]

    async def test_a_timeout_ends_a_stream_whose_task_is_not_final(self, backend: Backend, task_id: str) -> None:
        await backend.append(task_id, 1, 2)
        for timeout in (0, 0.2):
            seen, error = await read_until_an_error(backend, task_id, timeout)
            assert (seen, type(error)) == ([1, 2], ResultTimeout)

    async def test_an_item_that_cannot_be_stored_stores_nothing_of_its_call(
        self, backend: Backend, task_id: str
    ) -> None:
        with pytest.raises(EncodeError, match=task_id):
            await backend.append(task_id, 1, asyncio.sleep)
        async with self.make_backend(max_result_bytes=1000) as small:
            with pytest.raises(ResultTooLarge, match=task_id):
                await small.append(task_id, 1, [str(uuid.uuid4()) for _ in range(200)])
        with pytest.raises(ValueError, match="nothing to append"):
            await backend.append(task_id)
        assert await backend.append(task_id, "good") == 1

    async def test_a_place_that_is_not_in_the_stream_is_an_error(self, backend: Backend, task_id: str) -> None:
        await backend.append(task_id, 1, 2)
        with pytest.raises(StreamGap, match="ends at item 2") as caught:
            await read(backend, task_id, after=5)
        assert (caught.value.first, caught.value.last) == (1, 2)
        with pytest.raises(ValueError, match="-1"):
            await read(backend, task_id, after=-1)

    async def test_a_full_stream_refuses_the_call_as_a_whole(self, task_id: str) -> None:
        async with self.make_backend(stream_max_items=5) as backend:
            assert await backend.append(task_id, 1, 2, 3) == 3
            calls = (backend.append(task_id, 4), backend.append(task_id, 5, 6), backend.append(task_id, 7))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [int, StreamFull, int]
            await backend.mark_as_done(task_id, None)
            assert await read(backend, task_id) == numbered([1, 2, 3, 4, 7])

    async def test_a_trimmed_stream_keeps_its_numbers_and_tells_who_comes_too_late(self, task_id: str) -> None:
        async with self.make_backend(stream_max_items=5, stream_trim=True) as backend:
            for value in range(1, 13):
                assert await backend.append(task_id, value) == value
            with pytest.raises(StreamGap, match="up to 7 were deleted") as caught:
                await read(backend, task_id, after=3)
            assert (caught.value.first, caught.value.last) == (8, 12)
            await backend.mark_as_done(task_id, None)
            assert await read(backend, task_id, after=7) == [(n, n) for n in range(8, 13)]
            assert await read(backend, task_id, after=10) == [(11, 11), (12, 12)]

    async def test_a_repeated_append_stores_what_is_missing_and_no_more(self, backend: Backend, task_id: str) -> None:
        store, runtime = backend._runtime.store, backend._runtime
        first = backend._encode_items(task_id, ["a", "b"])
        assert await store.append_many([first]) == [2]
        again = Append(task_id, [*first.items, *backend._encode_items(task_id, ["c"]).items], repeated=True)
        assert await store.append_many([again]) == [3]
        assert await store.append_many([again]) == [3]
        await backend.mark_as_done(task_id, None)
        assert await read(backend, task_id) == numbered(["a", "b", "c"])
        chunk = await runtime.batcher.read_stream(Cursor(task_id, 0, 0))
        assert (chunk.oldest, chunk.last, len(chunk.items)) == (1, 3, 0)

    async def test_a_repeated_append_gets_the_number_of_its_own_last_item(self, backend: Backend, task_id: str) -> None:
        store = backend._runtime.store
        first = backend._encode_items(task_id, ["a", "b"])
        assert await store.append_many([first]) == [2]
        assert await backend.append(task_id, "others") == 3
        first.repeated = True
        assert await store.append_many([first]) == [2]
        (new,) = backend._encode_items(task_id, ["new"]).items
        assert await store.append_many([Append(task_id, [new, first.items[-1]], repeated=True)]) == [2]
        await backend.mark_as_done(task_id, None)
        assert await read(backend, task_id) == numbered(["a", "b", "others", "new"])

    async def test_forgetting_a_task_deletes_its_stream(self, backend: Backend, task_id: str) -> None:
        await backend.append(task_id, 1, 2)
        await backend.forget(task_id)
        chunk = await backend._runtime.batcher.read_stream(Cursor(task_id, 0, 10))
        assert (chunk.last, len(chunk.items)) == (0, 0)
        with pytest.raises(StreamGap, match="nothing is stored"):
            await read(backend, task_id, after=2)
        assert await backend.append(task_id, "new") == 1

    async def test_a_long_stream_is_read_in_pages(self, backend: Backend, task_id: str) -> None:
        values = list(range(1234))
        for start in range(0, 1234, 300):
            await backend.append(task_id, *values[start : start + 300])
        await backend.mark_as_done(task_id, None)
        assert await read(backend, task_id) == numbered(values)

    async def test_readers_cost_no_subscriptions_once_they_have_left(
        self, backend: Backend, task_id: str, tasks: Tasks
    ) -> None:
        readers = [tasks.begin(read(backend, task_id)) for _ in range(20)]
        await backend.append(task_id, 1)
        await asyncio.sleep(0)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert (backend._runtime.hub.waiting, len(backend._runtime.hub.deadlines)) == (0, 0)
