"""Many results at once: gather, as_completed, wait, sets and groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import aioresult
from aioresult import AioResultError, AsyncResult, Backend, GroupResult, ResultSet, ResultTimeout
from aioresult.groups import from_tree
from aioresult.testing import FaultyStore

PATIENCE = 30.0
Three = list[AsyncResult[Any]]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest_asyncio.fixture
async def backend(store: FaultyStore) -> AsyncIterator[Backend]:
    async with Backend(store) as backend:
        yield backend


@pytest_asyncio.fixture
async def three(backend: Backend) -> Three:
    return [backend.AsyncResult(task_id) for task_id in "abc"]


async def test_gather_gives_the_values_in_order_however_they_arrive(backend: Backend, three: Three) -> None:
    gathering = asyncio.create_task(aioresult.gather(*three))
    for task_id in "cab":
        await asyncio.sleep(0)
        await backend.store_result(task_id, task_id.upper(), "SUCCESS")
    assert await gathering == ["A", "B", "C"]


async def test_gather_raises_the_first_failure_without_waiting_for_the_rest(backend: Backend, three: Three) -> None:
    gathering = asyncio.create_task(aioresult.gather(*three))
    await backend.store_result("c", KeyError("c"), "FAILURE")
    with pytest.raises(KeyError, match="c"):
        await gathering
    assert backend.stats().waiting == 0


async def test_gather_returns_exceptions_if_asked_to(backend: Backend, three: Three) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    await backend.store_result("b", ValueError("b"), "FAILURE")
    await backend.mark_as_revoked("c")
    values = await aioresult.gather(*three, return_exceptions=True)
    assert values[0] == 1
    assert isinstance(values[1], ValueError)
    assert isinstance(values[2], aioresult.TaskRevokedError)


async def test_gathering_nothing_gives_nothing() -> None:
    assert await aioresult.gather() == []


async def test_the_same_task_twice_is_awaited_once_and_given_twice(backend: Backend) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    assert await aioresult.gather(backend.AsyncResult("a"), backend.AsyncResult("a")) == [1, 1]


async def test_as_completed_yields_each_result_once_when_it_is_final(backend: Backend, three: Three) -> None:
    await backend.store_result("b", 2, "SUCCESS")
    seen = []
    async for result in aioresult.as_completed(three, timeout=PATIENCE):
        assert result.final is not None
        seen.append((result.id, await result))
        if len(seen) < 3:
            task_id = "ca"[len(seen) - 1]
            await backend.store_result(task_id, len(seen), "SUCCESS")
    assert seen == [("b", 2), ("c", 1), ("a", 2)]


async def test_as_completed_times_out_after_yielding_what_came(
    backend: Backend, three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.store_result("b", 2, "SUCCESS")
    arriving = aioresult.as_completed(three, timeout=0.02)
    loop = asyncio.get_running_loop()
    start = loop.time()
    with monkeypatch.context() as clock:
        clock.setattr(loop, "time", lambda: start)  # it comes in time, however slow the machine is
        assert (await anext(arriving)).id == "b"
    with pytest.raises(ResultTimeout, match=r"2 of 3"):
        await anext(arriving)


@pytest.mark.parametrize(
    ("return_when", "stored", "done"),
    [
        (asyncio.FIRST_COMPLETED, [("b", 1, "SUCCESS")], "b"),
        (asyncio.FIRST_EXCEPTION, [("a", 1, "SUCCESS"), ("c", ValueError(), "FAILURE")], "ac"),
        (asyncio.ALL_COMPLETED, [("a", 1, "SUCCESS"), ("b", 1, "SUCCESS"), ("c", ValueError(), "FAILURE")], "abc"),
    ],
)
async def test_wait_returns_when_told_to(
    backend: Backend, three: Three, return_when: str, stored: list[tuple[str, Any, str]], done: str
) -> None:
    waiting = asyncio.create_task(aioresult.wait(three, timeout=PATIENCE, return_when=return_when))
    for _ in range(5):
        await asyncio.sleep(0)
    for task_id, value, state in stored:
        await backend.store_result(task_id, value, state)
    finished, pending = await waiting
    assert {result.id for result in finished} == set(done)
    assert {result.id for result in pending} == set("abc") - set(done)


async def test_wait_returns_what_is_known_at_its_timeout_and_looks_once_at_zero(backend: Backend, three: Three) -> None:
    await backend.store_result("a", 1, "SUCCESS")
    for timeout in (0, 0.5):
        done, pending = await aioresult.wait(three, timeout=timeout)
        assert ({result.id for result in done}, {result.id for result in pending}) == ({"a"}, {"b", "c"})
    with pytest.raises(ValueError, match="return_when"):
        await aioresult.wait(three, return_when="SOMETIME")


@pytest.mark.slow
async def test_ten_thousand_are_joined_with_few_reads(backend: Backend, store: FaultyStore) -> None:
    results = [backend.AsyncResult(str(number)) for number in range(10_000)]
    joining = asyncio.create_task(ResultSet(results).join(timeout=PATIENCE))
    await asyncio.sleep(0)
    await asyncio.gather(*(backend.store_result(str(number), number, "SUCCESS") for number in range(10_000)))
    assert await joining == list(range(10_000))
    assert len(store.reads) <= 3


async def test_an_unreadable_record_fails_its_own_place_only(
    backend: Backend, store: FaultyStore, three: Three
) -> None:
    for task_id in "abc":
        await backend.store_result(task_id, task_id, "SUCCESS")
    store._space.items["b"].payload = b"garbage"
    values = await aioresult.gather(*three, return_exceptions=True)
    assert values[0::2] == ["a", "c"]
    assert isinstance(values[1], aioresult.DecodeError)
    with pytest.raises(aioresult.DecodeError):
        await ResultSet([backend.AsyncResult(task_id) for task_id in "abc"]).join(timeout=PATIENCE)


async def test_results_of_two_backends_are_refused_with_advice(backend: Backend) -> None:
    async with Backend("memory://") as other:
        with pytest.raises(AioResultError, match=r"asyncio\.gather"):
            await aioresult.gather(backend.AsyncResult("a"), other.AsyncResult("a"))


async def test_a_set_answers_for_all_its_members_with_one_read(
    backend: Backend, store: FaultyStore, three: Three
) -> None:
    group = ResultSet(three)
    assert not await group.ready()
    await backend.store_result("a", 1, "SUCCESS")
    await backend.store_result("b", ValueError("second"), "FAILURE")
    store.reads.clear()
    assert await group.waiting()
    assert await group.failed()
    assert not await group.successful()
    assert await group.completed_count() == 1
    assert len(store.reads) == 4
    assert await ResultSet().ready()
    with pytest.raises(ValueError, match=r"^second$"):
        await group.join(timeout=PATIENCE)
    await backend.store_result("c", 3, "SUCCESS")
    values = await group.join(timeout=PATIENCE, propagate=False)
    assert values[0::2] == [1, 3]
    await group.forget()
    assert await backend.fetch_many("abc") == {}


async def test_joining_times_out_for_all_together(three: Three) -> None:
    for timeout in (0, 0.5):
        with pytest.raises(ResultTimeout, match="3 of 3"):
            await ResultSet(three).join(timeout=timeout)


async def test_a_set_is_a_collection_without_duplicates(three: Three) -> None:
    group = ResultSet(three[:2])
    group.add(three[0])
    group.update(three)
    assert [result.id for result in group] == ["a", "b", "c"]
    assert (len(group), group[1], three[2] in group) == (3, three[1], True)
    group.remove("b")
    group.discard(three[1])
    with pytest.raises(KeyError):
        group.remove("b")
    assert group == ResultSet([three[0], three[2]])
    group.clear()
    assert len(group) == 0


async def test_nested_groups_give_nested_lists_and_are_saved_and_restored(backend: Backend, three: Three) -> None:
    inner = GroupResult("inner", three[1:], backend=backend)
    outer = GroupResult("outer", [three[0], inner], parent=backend.AsyncResult("root"), backend=backend)
    for task_id in "abc":
        await backend.store_result(task_id, task_id, "SUCCESS")
    assert await outer.join(timeout=PATIENCE) == ["a", ["b", "c"]]
    assert await aioresult.gather(outer, three[0]) == [["a", ["b", "c"]], "a"]
    await outer.save()
    restored = await GroupResult.restore("outer", backend)
    assert restored == outer
    assert await GroupResult.restore("unknown", backend) is None
    assert GroupResult("empty")


@pytest.mark.parametrize(
    ("tree", "kind", "task_id", "parent"),
    [
        ([["a", None], None], AsyncResult, "a", None),
        (["a", None], AsyncResult, "a", None),
        ([["c", [["b", [["a", None], None]], None]], None], AsyncResult, "c", "b"),
        ([["g", None], [[["a", None], None], [["h", None], []]]], GroupResult, "g", None),
        ([["body", [["g", None], [[["a", None], None]]]], None], AsyncResult, "body", "g"),
    ],
)
def test_celerys_trees_become_results_and_go_back(tree: Any, kind: type[Any], task_id: str, parent: str | None) -> None:
    result = from_tree(tree)
    assert type(result) is kind
    assert result.id == task_id
    assert (None if result.parent is None else str(result.parent)) == parent
    assert from_tree(result.as_tuple()).as_tuple() == result.as_tuple()


async def test_the_failure_of_an_ancestor_is_raised_before_its_consequence(backend: Backend) -> None:
    root = backend.AsyncResult("root")
    header = GroupResult("header", [backend.AsyncResult("h1"), backend.AsyncResult("h2")], root, backend=backend)
    body = backend.AsyncResult("body", parent=header)
    waiting = asyncio.create_task(body.get(timeout=PATIENCE))
    await asyncio.sleep(0)
    await backend.store_result("h2", KeyError("the cause"), "FAILURE")
    with pytest.raises(KeyError, match="the cause"):
        await waiting
    await backend.store_result("body", RuntimeError("the consequence"), "FAILURE")
    with pytest.raises(KeyError, match="the cause"):
        await backend.AsyncResult("body", parent=header).get(timeout=PATIENCE)
    with pytest.raises(RuntimeError, match="the consequence"):
        await backend.AsyncResult("body", parent=header).get(timeout=PATIENCE, follow_parents=False)
    assert backend.stats().waiting == 0


async def test_a_child_of_a_sound_parent_gives_its_value(backend: Backend) -> None:
    await backend.store_result("parent", 1, "SUCCESS")
    child = backend.AsyncResult("child", parent=backend.AsyncResult("parent"))
    with pytest.raises(ResultTimeout):
        await child.get(timeout=0.02)
    await backend.store_result("child", 2, "SUCCESS")
    assert await child.get(timeout=PATIENCE) == 2
