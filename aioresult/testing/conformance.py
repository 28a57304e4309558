"""The conformance suite of stores: ``aioresult.abc`` as tests.

Subclass ``StoreTests`` in a test module, set ``url`` (or override ``make_backend``), and run pytest with
pytest-asyncio::

    class TestMyStore(StoreTests):
        url = "mystore://localhost/test"

The tests use ids of their own and may run against a store that holds other results.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, ClassVar

import pytest
import pytest_asyncio

import aioresult
from aioresult import Backend, Record, states
from aioresult.abc import Feed, Store
from aioresult.errors import DecodeError, EncodeError, InvalidTaskId, RemoteTaskError, ResultTimeout, Unsupported
from aioresult.testing.streams import StreamTests

PATIENCE = 30.0
"""Seconds after which something that should happen at once counts as not happening."""

VALUES: list[Any] = [
    None, True, 0, -1, 2**63 - 1, 1.5, "", "text", "h\u00e9 \u4e2d \U0001f600", "nul\x00inside", [], [1, [2, [None]]],
    {}, {"a": {"b": [1, "two", None]}}, {"status": "FAILURE", "result": 1}, "x" * 100_000,
]  # fmt: skip
STRANGE_IDS = [
    " ", "with spaces", "line\nbreak", "tab\t", "\u4e2d\u6587", "a/b:c{d}%e'f\"g", "..",
    f"{uuid.uuid4()}".ljust(150, "x"),
]  # fmt: skip
STATES = ["PENDING", "STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "CUSTOM"]


def fresh_id() -> str:
    """Return an id that nobody has used."""
    return str(uuid.uuid4())


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until ``condition`` holds, asking again and again; fail when it does not within ``PATIENCE``."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.01)


def outcome_for(state: str, value: Any = "value") -> Any:
    """Return something that may be stored as the result of ``state``."""
    return ValueError(value) if state in states.EXCEPTION_STATES else value


class Collected:
    """Collects what a feed emits, in the background."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[tuple[str, Record | None]] = []
        self._arrived = asyncio.Condition()
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for event in self.feed:
            async with self._arrived:
                self.events.append(event)
                self._arrived.notify_all()

    async def expect(self, wanted: Callable[[list[tuple[str, Record | None]]], bool]) -> None:
        """Wait until the events so far satisfy ``wanted``."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: self._task.done() or wanted(self.events))
        assert wanted(self.events), f"the feed ended: {self._task}"

    async def aclose(self) -> None:
        """Stop collecting and close the feed."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.feed.aclose()


class StoreTests(StreamTests):
    """Every promise of ``Store`` and ``Feed``, and what users of ``Backend`` see of them."""

    url: ClassVar[str] = ""
    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    def make_backend(self, **settings: Any) -> Backend:
        """Return a new backend on the store under test; all those of one test see the same data."""
        return Backend(self.url, **{"idle_timeout": 0.05, "poll_interval": 0.1, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        """Replace what is stored under ``task_id`` by something that cannot be decoded, behind the store's back."""
        raise NotImplementedError(f"{type(self).__name__}.poison has to say how to store garbage in this store")

    @pytest_asyncio.fixture
    async def backend(self) -> AsyncIterator[Backend]:
        """Give a backend on the store under test."""
        async with self.make_backend() as backend:
            yield backend

    @pytest_asyncio.fixture
    async def other(self) -> AsyncIterator[Backend]:
        """Give a second backend with connections of its own on the same store."""
        async with self.make_backend() as other:
            yield other

    @pytest_asyncio.fixture
    async def feed(self, backend: Backend) -> AsyncIterator[Collected]:
        """Give the feed that waiters would be served by, with its events being collected."""
        collected = Collected(await backend.runtime.hub.open_feed())
        yield collected
        await collected.aclose()

    # --- reading and writing ---

    async def test_what_is_not_stored_is_left_out_and_pending(self, backend: Backend) -> None:
        task_id = fresh_id()
        assert dict(await backend.runtime.store.get_many([task_id])) == {}
        assert (await backend.fetch(task_id)).status == "PENDING"
        assert not (await backend.fetch(task_id)).ready

    async def test_values_come_back_as_they_were(self, backend: Backend) -> None:
        for value in VALUES:
            task_id = fresh_id()
            assert await backend.store_result(task_id, value, "SUCCESS")
            record = await backend.fetch(task_id)
            assert (record.id, record.status, record.result) == (task_id, "SUCCESS", value)
            assert type(record.result) is type(value)

    async def test_every_state_comes_back_with_its_result_and_date(self, backend: Backend) -> None:
        for state in STATES:
            task_id = fresh_id()
            before = datetime.now(UTC) - timedelta(seconds=1)
            assert await backend.store_result(task_id, outcome_for(state, {"step": 1}), state, "the traceback")
            record = await backend.fetch(task_id)
            assert record.status == state
            assert record.traceback == "the traceback"
            assert repr(record.result) == repr(outcome_for(state, {"step": 1}))
            if record.ready:
                assert record.date_done is not None
                assert before <= record.date_done <= datetime.now(UTC) + timedelta(seconds=1)
            else:
                assert record.date_done is None

    async def test_a_failure_keeps_its_type_arguments_and_traceback(self, backend: Backend) -> None:
        known, unknown = fresh_id(), fresh_id()
        try:
            raise KeyError("missing", 42)
        except KeyError as exc:
            await backend.mark_as_failure(known, exc)
        await backend.store_result(
            unknown, {"exc_type": "Odd", "exc_module": "elsewhere", "exc_message": ["a", 1]}, "FAILURE", "the text"
        )
        with pytest.raises(KeyError) as caught:
            await backend.AsyncResult(known).get(timeout=PATIENCE)
        assert caught.value.args == ("missing", 42)
        assert "KeyError" in ((await backend.fetch(known)).traceback or "")
        with pytest.raises(RemoteTaskError) as remote:
            await backend.AsyncResult(unknown).get(timeout=PATIENCE)
        assert (remote.value.exc_type, remote.value.exc_module, remote.value.exc_args) == ("Odd", "elsewhere", ("a", 1))

    async def test_children_come_back(self, backend: Backend) -> None:
        task_id = fresh_id()
        await backend.store_result(task_id, 1, "SUCCESS", children=[[["child", None], None]])
        children = await backend.AsyncResult(task_id).children()
        assert children is not None
        assert [str(child) for child in children] == ["child"]

    async def test_extended_fields_come_back_where_they_are_switched_on(self) -> None:
        meta: dict[str, Any] = {
            "name": "tasks.add",
            "args": [1, 2],
            "kwargs": {"x": 1},
            "worker": "w@h",
            "retries": 2,
            "queue": "q",
        }
        async with self.make_backend(result_extended=True) as on, self.make_backend() as off:
            first, second = fresh_id(), fresh_id()
            await on.store_result(first, 1, "SUCCESS", **meta)
            await off.store_result(second, 1, "SUCCESS", **meta)
            record = await on.fetch(first)
            assert {key: getattr(record, key) for key in meta} == meta
            assert (await on.fetch(second)).name is None

    async def test_strange_ids_are_ids_like_any_other(self, backend: Backend) -> None:
        for strange in STRANGE_IDS:
            task_id = strange + fresh_id()[: max(0, 150 - len(strange))]
            waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))
            await asyncio.sleep(0)
            assert await backend.store_result(task_id, task_id, "SUCCESS")
            assert await waiting == task_id

    async def test_an_id_beyond_the_limit_is_refused_for_reading_and_writing(self, backend: Backend) -> None:
        limit = backend.runtime.store.max_id_length
        task_id = fresh_id() + "x" * (10_000 if limit is None else limit)
        if limit is None:
            assert await backend.store_result(task_id, 1, "SUCCESS")
            assert (await backend.fetch(task_id)).result == 1
            return
        for refused in (
            backend.store_result(task_id, 1, "SUCCESS"),
            backend.fetch(task_id),
            backend.AsyncResult(task_id).get(timeout=1),
            backend.forget(task_id),
        ):
            with pytest.raises(InvalidTaskId, match=str(limit)):
                await refused

    async def test_a_value_that_cannot_be_encoded_is_refused_and_nothing_is_stored(self, backend: Backend) -> None:
        task_id, good = fresh_id(), fresh_id()
        refused, stored = await asyncio.gather(
            backend.store_result(task_id, {"items": [1, object()]}, "SUCCESS"),
            backend.store_result(good, 1, "SUCCESS"),
            return_exceptions=True,
        )
        assert isinstance(refused, EncodeError)
        assert stored is True
        assert (await backend.fetch(task_id)).status == "PENDING"

    async def test_many_are_read_and_written_at_once(self, backend: Backend) -> None:
        ids = [fresh_id() for _ in range(500)]
        records = [Record(id=task_id, status="SUCCESS", result=index) for index, task_id in enumerate(ids)]
        store = backend.runtime.store
        assert list(await store.put_many(records)) == [True] * 500
        found = await store.get_many([*ids, fresh_id()])
        assert {task_id: record.result for task_id, record in found.items()} == {t: i for i, t in enumerate(ids)}

    async def test_nothing_to_do_is_done_at_once(self, backend: Backend) -> None:
        store = backend.runtime.store
        async with asyncio.timeout(PATIENCE):
            assert dict(await store.get_many([])) == {}
            assert list(await store.put_many([])) == []
            await store.delete_many([])
            assert await backend.fetch_many([]) == {}

    async def test_forgetting_deletes(self, backend: Backend) -> None:
        task_id = fresh_id()
        await backend.store_result(task_id, 1, "SUCCESS")
        await backend.forget(task_id)
        assert (await backend.fetch(task_id)).status == "PENDING"
        await backend.forget(task_id)
        assert await backend.store_result(task_id, 2, "STARTED")

    async def test_an_unreadable_record_hurts_its_own_task_only(self, backend: Backend) -> None:
        bad, good = fresh_id(), fresh_id()
        await backend.store_result(bad, 1, "STARTED")
        await self.poison(backend, bad)
        await backend.store_result(good, 1, "SUCCESS")
        values = await asyncio.gather(
            backend.AsyncResult(bad).get(timeout=PATIENCE),
            backend.AsyncResult(good).get(timeout=PATIENCE),
            return_exceptions=True,
        )
        assert isinstance(values[0], DecodeError)
        assert bad in str(values[0])
        assert values[1] == 1

    # --- states never go backwards ---

    async def test_a_state_is_replaced_only_by_what_may_replace_it(self, backend: Backend) -> None:
        for old, new in product(STATES, STATES):
            task_id = fresh_id()
            assert await backend.store_result(task_id, outcome_for(old, "old"), old)
            written = await backend.store_result(task_id, outcome_for(new, "new"), new)
            record = await backend.fetch(task_id)
            assert written is states.replaces(new, old), (old, new)
            assert (record.status, repr(record.result)) == (
                (new, repr(outcome_for(new, "new"))) if written else (old, repr(outcome_for(old, "old")))
            )

    async def test_of_concurrent_writers_exactly_one_success_stays(self, backend: Backend, other: Backend) -> None:
        for _ in range(10):
            task_id = fresh_id()
            writes = [
                writer.store_result(task_id, outcome_for(state, number), state)
                for number, state in enumerate(["STARTED", "PROGRESS", "SUCCESS", "RETRY", "SUCCESS", "FAILURE"])
                for writer in (backend, other)
            ]
            written = await asyncio.gather(*writes)
            record = await backend.fetch(task_id)
            assert record.status == "SUCCESS"
            assert sum(written[4:6] + written[8:10]) == 1

    async def test_writing_the_same_again_counts_as_written(self, backend: Backend) -> None:
        """A writer whose connection broke does not know whether it was written: writing again must be honest."""
        store = backend.runtime.store
        record = store.encode(Record(id=fresh_id(), status="SUCCESS", result=1, date_done=datetime.now(UTC)))
        assert list(await store.put_many([record])) == [True]
        assert list(await store.put_many([record])) == [True]

    # --- expiry ---

    async def test_an_expired_result_is_gone_once_it_is_purged_and_may_be_stored_anew(self) -> None:
        async with self.make_backend(result_expires=1) as backend:
            task_id = fresh_id()
            await backend.store_result(task_id, 1, "SUCCESS")
            assert (await backend.fetch(task_id)).ready

            async def gone() -> bool:
                await backend.purge()
                return not (await backend.fetch(task_id)).ready

            await eventually(gone)
            assert await backend.store_result(task_id, 2, "STARTED")
            assert (await backend.fetch(task_id)).status == "STARTED"

    async def test_an_expired_result_may_be_stored_anew_though_nobody_has_purged(self) -> None:
        async with self.make_backend(result_expires=1) as backend:
            task_id = fresh_id()
            await backend.store_result(task_id, 1, "SUCCESS")
            assert not await backend.store_result(task_id, 2, "STARTED")

            async def stored() -> bool:
                return await backend.store_result(task_id, 2, "STARTED")

            await eventually(stored)
            assert (await backend.fetch(task_id)).status == "STARTED"

    async def test_purging_reports_a_number_and_keeps_what_is_alive(self, backend: Backend) -> None:
        task_id = fresh_id()
        await backend.store_result(task_id, 1, "SUCCESS")
        assert await backend.purge() >= 0
        assert (await backend.fetch(task_id)).result == 1

    # --- the feed ---

    async def test_every_watched_id_is_owed_an_event(self, backend: Backend, feed: Collected) -> None:
        stored, missing = fresh_id(), fresh_id()
        await backend.store_result(stored, 1, "SUCCESS")
        await feed.feed.watch([stored, missing])
        await feed.expect(lambda events: {stored, missing} <= {task_id for task_id, _ in events})
        for task_id, record in feed.events:
            if record is not None:
                assert record.status == ("SUCCESS" if task_id == stored else "PENDING")

    async def test_what_is_stored_after_the_owed_event_is_announced(
        self, backend: Backend, other: Backend, feed: Collected
    ) -> None:
        ids = [fresh_id() for _ in range(20)]
        await feed.feed.watch(ids)
        await feed.expect(lambda events: set(ids) <= {task_id for task_id, _ in events})
        feed.events.clear()
        await asyncio.gather(*(other.store_result(task_id, task_id, "SUCCESS") for task_id in ids))
        await feed.expect(lambda events: set(ids) <= {task_id for task_id, _ in events})
        for task_id, record in feed.events:
            assert record is None or record.result in (task_id, None)

    async def test_watching_again_owes_an_event_again(self, backend: Backend, feed: Collected) -> None:
        task_id = fresh_id()
        for _ in range(3):
            feed.events.clear()
            await feed.feed.watch([task_id])
            await feed.expect(lambda events: any(event[0] == task_id for event in events))

    async def test_what_is_no_longer_watched_may_be_watched_again(
        self, backend: Backend, other: Backend, feed: Collected
    ) -> None:
        task_id = fresh_id()
        await feed.feed.watch([task_id])
        await feed.expect(lambda events: any(event[0] == task_id for event in events))
        await feed.feed.unwatch([task_id])
        await feed.feed.unwatch([task_id, fresh_id()])
        feed.events.clear()
        await feed.feed.watch([task_id])
        await other.store_result(task_id, 1, "SUCCESS")
        await feed.expect(lambda events: any(i == task_id and (r is None or r.ready) for i, r in events))

    async def test_a_feed_may_be_closed_twice(self, backend: Backend) -> None:
        feed = await backend.runtime.hub.open_feed()
        await feed.aclose()
        await feed.aclose()

    # --- waiting ---

    async def test_a_result_stored_elsewhere_wakes_its_waiter(self, backend: Backend, other: Backend) -> None:
        task_id = fresh_id()
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))

        async def watched() -> bool:
            return backend.stats().watched > 0

        await eventually(watched)
        await other.store_result(task_id, None, "STARTED")
        await other.store_result(task_id, {"value": 1}, "SUCCESS")
        assert await waiting == {"value": 1}

    async def test_a_result_stored_at_any_moment_of_the_waiting_is_seen(self, other: Backend) -> None:
        await other.ping()
        for turns in range(40):
            task_id = fresh_id()
            async with self.make_backend() as backend:  # a new one each time, so that connecting is among the moments
                waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await other.store_result(task_id, turns, "SUCCESS")
                assert await waiting == turns

    async def test_all_waiters_of_an_id_get_its_result_and_reading_does_not_consume(self, backend: Backend) -> None:
        task_id = fresh_id()
        waiting = [asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE)) for _ in range(5)]
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting[1].cancel()
        await backend.store_result(task_id, 1, "SUCCESS")
        assert await asyncio.gather(*waiting[2:]) == [1, 1, 1]
        assert await backend.AsyncResult(task_id).get(timeout=PATIENCE) == 1

    async def test_waiting_ends_by_its_timeout(self, backend: Backend) -> None:
        for timeout in (0, -1, 0.02):
            with pytest.raises(ResultTimeout):
                await backend.AsyncResult(fresh_id()).get(timeout=timeout)

    async def test_updates_show_the_states_in_order_and_end_with_the_final_one(
        self, backend: Backend, other: Backend
    ) -> None:
        task_id = fresh_id()
        seen: list[str] = []
        await other.store_result(task_id, None, "STARTED")
        async for record in backend.AsyncResult(task_id).updates(timeout=PATIENCE):
            seen.append(record.status)
            if record.status == "STARTED":
                await other.store_result(task_id, {"current": 1}, "PROGRESS")
            elif record.status == "PROGRESS":
                await other.store_result(task_id, 1, "SUCCESS")
        assert seen == ["STARTED", "PROGRESS", "SUCCESS"]

    async def test_a_thousand_are_awaited_at_once(self, backend: Backend, other: Backend) -> None:
        results = [backend.AsyncResult(fresh_id()) for _ in range(1000)]
        waiting = asyncio.create_task(backend.GroupResult(None, results).join(timeout=2 * PATIENCE))
        await asyncio.sleep(0)
        await asyncio.gather(*(other.store_result(r.id, i, "SUCCESS") for i, r in enumerate(results)))
        assert await waiting == list(range(1000))

    async def test_nothing_is_left_behind_when_nobody_waits(self, backend: Backend) -> None:
        task_id = fresh_id()
        await backend.ping()
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))
        await asyncio.sleep(0)
        await backend.store_result(task_id, 1, "SUCCESS")
        await waiting

        async def quiet() -> bool:
            stats = backend.stats()
            return stats.waiting == stats.watched == 0 and asyncio.all_tasks() <= before

        await eventually(quiet)

    async def test_one_backend_serves_one_event_loop_after_the_other(self) -> None:
        backend = self.make_backend()
        task_id = fresh_id()

        async def write() -> bool:
            return await backend.store_result(task_id, 1, "SUCCESS")

        async def read() -> Any:
            waiting = [backend.AsyncResult(task_id).get(timeout=PATIENCE) for _ in range(2)]
            return await asyncio.gather(*waiting)

        assert await asyncio.to_thread(lambda: asyncio.run(write()))
        assert await asyncio.to_thread(lambda: asyncio.run(read())) == [1, 1]

    # --- groups ---

    async def test_a_saved_group_is_restored_with_its_members_and_can_be_deleted(self, backend: Backend) -> None:
        members = [backend.AsyncResult(fresh_id()) for _ in range(3)]
        group = backend.GroupResult(fresh_id(), members)
        if type(backend.runtime.store).put_group is Store.put_group:
            with pytest.raises(Unsupported, match="groups"):
                await group.save()
            return
        await group.save()
        await group.save()
        restored = await aioresult.GroupResult.restore(group.id, backend)
        assert restored is not None
        assert (restored.id, restored.results) == (group.id, group.results)
        await backend.store_result(members[0].id, 1, "SUCCESS")
        assert await restored.completed_count() == 1
        await group.delete()
        assert await backend.restore_group(group.id) is None

    # --- what the store says of itself ---

    async def test_the_store_answers_a_ping_and_says_how_it_pushes(self, backend: Backend) -> None:
        await backend.ping()
        capabilities = await backend.capabilities()
        feed = await backend.runtime.store.feed()
        assert capabilities.push is (feed is not None)
        assert capabilities.mechanism
        assert capabilities.push or capabilities.reason
        if feed is not None:
            await feed.aclose()
        assert backend.stats().commands > 0
