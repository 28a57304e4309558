"""The part of the conformance suite that is about feeds: what a store announces."""

from __future__ import annotations

import asyncio

from aioresult import Backend
from aioresult.testing.fixtures import Collected, StoreFixtures, fresh_id

OWED = "an event for each id that is watched (Feed, rule 1)"
ANNOUNCED = "an event for each state that another backend has stored (Feed, rule 2)"


class FeedTests(StoreFixtures):
    """Tests of every promise of ``Feed``, and that the store says whether it has one."""

    async def test_every_watched_id_is_owed_an_event(self, backend: Backend, feed: Collected) -> None:
        stored, missing = fresh_id(), fresh_id()
        await backend.store_result(stored, 1, "SUCCESS")
        await feed.feed.watch([stored, missing])
        await feed.expect(lambda events: {stored, missing} <= {task_id for task_id, _ in events}, OWED)
        for task_id, record in feed.events:
            if record is not None:
                assert record.status == ("SUCCESS" if task_id == stored else "PENDING")

    async def test_what_is_stored_after_the_owed_event_is_announced(
        self, backend: Backend, other: Backend, feed: Collected
    ) -> None:
        ids = [fresh_id() for _ in range(20)]
        await feed.feed.watch(ids)
        await feed.expect(lambda events: set(ids) <= {task_id for task_id, _ in events}, OWED)
        feed.events.clear()
        await asyncio.gather(*(other.store_result(task_id, task_id, "SUCCESS") for task_id in ids))
        await feed.expect(lambda events: set(ids) <= {task_id for task_id, _ in events}, ANNOUNCED)
        for task_id, record in feed.events:
            assert record is None or record.result in (task_id, None)

    async def test_watching_again_owes_an_event_again(self, backend: Backend, feed: Collected) -> None:
        task_id = fresh_id()
        for _ in range(3):
            feed.events.clear()
            await feed.feed.watch([task_id])
            await feed.expect(lambda events: any(event[0] == task_id for event in events), OWED)

    async def test_what_is_no_longer_watched_may_be_watched_again(
        self, backend: Backend, other: Backend, feed: Collected
    ) -> None:
        task_id = fresh_id()
        await feed.feed.watch([task_id])
        await feed.expect(lambda events: any(event[0] == task_id for event in events), OWED)
        await feed.feed.unwatch([task_id])
        await feed.feed.unwatch([task_id, fresh_id()])
        feed.events.clear()
        await feed.feed.watch([task_id])
        await other.store_result(task_id, 1, "SUCCESS")
        await feed.expect(lambda events: any(i == task_id and (r is None or r.ready) for i, r in events), ANNOUNCED)

    async def test_a_feed_may_be_closed_twice(self, backend: Backend) -> None:
        feed = await backend._runtime.hub.open_feed()
        await feed.aclose()
        await feed.aclose()

    async def test_the_store_answers_a_ping_and_says_how_it_pushes(self, backend: Backend) -> None:
        await backend.ping()
        capabilities = await backend.capabilities()
        feed = await backend._runtime.store.feed()
        assert capabilities.push is (feed is not None)
        assert capabilities.mechanism
        assert capabilities.push or capabilities.reason
        if feed is not None:
            await feed.aclose()
        assert backend.stats().commands > 0
