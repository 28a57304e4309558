"""``gather`` keeps the types of its results, as asyncio's does: mypy checks each ``assert_type``."""

from __future__ import annotations

from typing import Any, assert_type

from aioresult import AsyncResult, Backend, GroupResult, gather, sync


async def test_each_value_has_the_type_of_its_result() -> None:
    async with Backend("memory://gather-types") as backend:
        await backend.mark_as_done("number", 7)
        await backend.mark_as_done("text", "seven")
        await backend.mark_as_failure("broken", ValueError("x"))
        number = AsyncResult("number", backend, result_type=int)
        text = AsyncResult("text", backend, result_type=str)
        untyped = AsyncResult("text", backend)
        assert [*await gather(number, untyped)] == [7, "seven"]

        one = await gather(number)
        two = await gather(number, text)
        six = await gather(number, text, number, text, number, text)
        assert_type(one, tuple[int])
        assert_type(two, tuple[int, str])
        assert_type(six, tuple[int, str, int, str, int, str])
        assert (*one, *two, *six) == (7, 7, "seven", 7, "seven", 7, "seven", 7, "seven")

        assert_type(await gather(*[number, number]), list[int])

        broken = AsyncResult("broken", backend, result_type=int)
        kept = await gather(text, broken, return_exceptions=True)
        assert_type(kept, tuple[str | BaseException, int | BaseException])
        assert_type(await gather(*[text], return_exceptions=True), list[str | BaseException])
        assert isinstance(kept[1], ValueError)

        group = GroupResult("g", [number, text], backend=backend)
        values = await gather(group, number)
        assert_type(values, list[Any])
        assert values == [[7, "seven"], 7]


def test_each_value_has_the_type_of_its_result_for_blocking_callers() -> None:
    backend = sync.Backend("memory://gather-types-sync")
    backend.mark_as_done("number", 7)
    number = sync.AsyncResult("number", backend, result_type=int)
    untyped = sync.AsyncResult("number", backend)
    assert_type(sync.gather(number), tuple[int])
    assert_type(sync.gather(*[number]), list[int])
    assert_type(sync.gather(number, number, return_exceptions=True), tuple[int | BaseException, int | BaseException])
    assert [*sync.gather(number, untyped)] == [7, 7]
    backend.close()
