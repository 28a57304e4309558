"""The parts of the conformance suite about storing, reading, replacing, expiring and deleting: records, and groups."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from aioresult import Backend, GroupResult, Record, states
from aioresult.abc import Store
from aioresult.errors import DecodeError, EncodeError, InvalidTaskId, RemoteTaskError, Unsupported
from aioresult.testing.fixtures import PATIENCE, StoreFixtures, eventually, fresh_id

VALUES: list[Any] = [
    None, True, 0, -1, 2**63 - 1, 1.5, "", "text", "h\u00e9 \u4e2d \U0001f600", "nul\x00inside", [], [1, [2, [None]]],
    {}, {"a": {"b": [1, "two", None]}}, {"status": "FAILURE", "result": 1}, "x" * 100_000,
]  # fmt: skip
STATES = ["PENDING", "STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "CUSTOM"]


def outcome_for(state: str, value: Any = "value") -> Any:
    """Return something that may be stored as the result of ``state``."""
    return ValueError(value) if state in states.EXCEPTION_STATES else value


class StoringTests(StoreFixtures):
    """Tests of every promise about single records."""

    async def test_what_is_not_stored_is_left_out_and_pending(self, backend: Backend) -> None:
        task_id = fresh_id()
        assert dict(await backend._runtime.store.get_many([task_id])) == {}
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

    async def test_an_id_as_long_as_the_limit_is_stored_whatever_its_characters(self, backend: Backend) -> None:
        limit = backend._runtime.store.max_id_length or 10_000
        for filler in ("x", "\U0001f600"):  # the limit is in characters; this one has four bytes
            task_id = fresh_id().ljust(limit, filler)
            assert await backend.store_result(task_id, 1, "SUCCESS")
            assert (await backend.fetch(task_id)).result == 1

    async def test_an_id_beyond_the_limit_is_refused_for_reading_and_writing(self, backend: Backend) -> None:
        limit = backend._runtime.store.max_id_length
        if limit is None:
            return
        task_id = fresh_id().ljust(limit + 1, "x")
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
        store = backend._runtime.store
        assert list(await store.put_many(records)) == [True] * 500
        found = await store.get_many([*ids, fresh_id()])
        assert {task_id: record.result for task_id, record in found.items()} == {t: i for i, t in enumerate(ids)}

    async def test_nothing_to_do_is_done_at_once(self, backend: Backend) -> None:
        store = backend._runtime.store
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
        cases = [(fresh_id(), old, new) for old, new in product(STATES, STATES)]
        first = (backend.store_result(task_id, outcome_for(old, "old"), old) for task_id, old, _ in cases)
        assert all(await asyncio.gather(*first))
        written = [await backend.store_result(task_id, outcome_for(new, "new"), new) for task_id, _, new in cases]
        records = await asyncio.gather(*(backend.fetch(task_id) for task_id, _, _ in cases))
        for (_, old, new), replaced, record in zip(cases, written, records, strict=True):
            assert replaced is states.replaces(new, old), (old, new)
            assert (record.status, repr(record.result)) == (
                (new, repr(outcome_for(new, "new"))) if replaced else (old, repr(outcome_for(old, "old")))
            ), (old, new)

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
        """After a lost connection, a writer does not know whether it has written, so a repeated write must count."""
        store = backend._runtime.store
        record = store.encode(Record(id=fresh_id(), status="SUCCESS", result=1, date_done=datetime.now(UTC)))
        assert list(await store.put_many([record])) == [True]
        assert list(await store.put_many([record])) == [True]

    # --- expiry ---

    async def test_an_expired_result_is_gone_once_it_is_purged_and_may_be_stored_anew(self) -> None:
        async with self.make_backend(result_expires=1) as backend:
            task_id = fresh_id()
            begun = time.monotonic()
            await backend.store_result(task_id, 1, "SUCCESS")
            assert (await backend.fetch(task_id)).ready or time.monotonic() - begun >= 1, "it has expired too early"

            purged = 0

            async def gone() -> bool:
                nonlocal purged
                purged += await backend.purge()
                return not (await backend.fetch(task_id)).ready

            await eventually(gone, "a record that expires after 1 s is gone by then")
            purged += await backend.purge()  # the result may have expired between the last two calls
            assert purged or not backend._runtime.store.needs_purge, "purge() has not counted the expired record"

            async def stored() -> bool:
                assert await backend.store_result(task_id, 2, "STARTED")
                return (await backend.fetch(task_id)).status == "STARTED"

            await eventually(stored, "STARTED is stored where a SUCCESS was purged, and is read until it expires")

    async def test_an_expired_result_may_be_stored_anew_though_nobody_has_purged(self) -> None:
        async with self.make_backend(result_expires=1) as backend:
            task_id = fresh_id()
            begun = time.monotonic()
            await backend.store_result(task_id, 1, "SUCCESS")
            replaced = await backend.store_result(task_id, 2, "STARTED")
            assert not replaced or time.monotonic() - begun >= 1, "a SUCCESS was replaced before it expired"

            async def stored() -> bool:
                return (
                    await backend.store_result(task_id, 2, "STARTED")
                    and (await backend.fetch(task_id)).status == "STARTED"
                )

            await eventually(stored, "STARTED replaces a SUCCESS that has expired after 1 s and was not purged")

    async def test_purging_reports_a_number_and_keeps_what_is_alive(self, backend: Backend) -> None:
        task_id = fresh_id()
        await backend.store_result(task_id, 1, "SUCCESS")
        assert await backend.purge() >= 0
        assert (await backend.fetch(task_id)).result == 1


class GroupTests(StoreFixtures):
    """Tests of every promise about saved groups. A store without them must say so."""

    async def test_a_saved_group_is_restored_with_its_members_and_can_be_deleted(self, backend: Backend) -> None:
        members = [backend.AsyncResult(fresh_id()) for _ in range(3)]
        group = backend.GroupResult(fresh_id(), members)
        if type(backend._runtime.store).put_group is Store.put_group:
            with pytest.raises(Unsupported, match="groups"):
                await group.save()
            return
        await group.save()
        await group.save()
        restored = await GroupResult.restore(group.id, backend)
        assert restored is not None
        assert (restored.id, restored.results) == (group.id, group.results)
        await backend.store_result(members[0].id, 1, "SUCCESS")
        assert await restored.completed_count() == 1
        await group.delete()
        assert await backend.restore_group(group.id) is None
