"""A cluster of which one node is frozen and has no replica: what the others hold is served all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from aioresult import Backend, Record, StoreUnavailable
from aioresult.partly import PartlyUnavailable
from aioresult.settings import make_settings
from aioresult.stores.redis.cluster import RedisClusterStore
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.link import Link
from aioresult.stores.redis.urls import from_url
from aioresult.stores.redis.wire import PING
from aioresult.testing.conformance import PATIENCE, eventually, fresh_id
from tests.servers import RedisClusterServers, RedisServer

KEY = "celery-task-meta-"
SETTINGS: dict[str, Any] = {"connect_timeout": 0.5, "redis_backend_health_check_interval": 0.5, "idle_timeout": 0.05}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as servers:
        for server in servers.servers:
            server.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
        yield servers


class Ids:
    """Ids that all nodes hold, told apart by whether the node that is going to be frozen does."""

    def __init__(self, cluster: RedisClusterServers) -> None:
        self.cluster = cluster
        self.all = [fresh_id() for _ in range(30)]
        self.victim = cluster.servers[-1]
        self.lost = [task_id for task_id in self.all if cluster.owner(KEY + task_id) is self.victim]
        self.held = [task_id for task_id in self.all if task_id not in self.lost]
        assert self.lost
        assert self.held

    def are_told_apart(self, outcomes: Sequence[object]) -> None:
        """Check that there is an error where it is due, and nowhere else."""
        errors = [task_id for task_id, each in zip(self.all, outcomes, strict=True) if isinstance(each, Exception)]
        assert errors == self.lost
        assert all(isinstance(each, StoreUnavailable) for each in outcomes if isinstance(each, Exception))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the node; at the end, wait until the cluster is whole again."""
        with self.victim.frozen():
            yield
        self.cluster.start()


@pytest.fixture
def ids(cluster: RedisClusterServers) -> Ids:
    return Ids(cluster)


def done(task_id: str) -> Record:
    return Record(id=task_id, status="SUCCESS", result=1)


@pytest.mark.parametrize("connected", [True, False])
async def test_calls_about_what_other_nodes_hold_succeed(ids: Ids, connected: bool) -> None:
    async with Backend(ids.cluster.url, **SETTINGS) as backend:
        await backend.ping()
        if connected:
            await asyncio.gather(*(backend.store_result(task_id, 0, "STARTED") for task_id in ids.all))
        with ids.frozen():
            for call in (
                lambda task_id: backend.store_result(task_id, 1, "SUCCESS"),
                lambda task_id: backend.AsyncResult(task_id).fetch(),
                lambda task_id: backend.AsyncResult(task_id).forget(),
            ):
                ids.are_told_apart(await asyncio.gather(*map(call, ids.all), return_exceptions=True))


async def test_the_store_tells_what_the_other_nodes_have_answered(ids: Ids) -> None:
    store = RedisClusterStore(ids.cluster.url, make_settings(SETTINGS))
    await store.put_many([done(task_id) for task_id in ids.all])
    with ids.frozen():
        for call, outcome in (
            (store.put_many([done(task_id) for task_id in ids.all]), True),
            (store.get_many(ids.all), "SUCCESS"),
            (store.delete_many(ids.all), None),
        ):
            with pytest.raises(PartlyUnavailable) as caught:
                await call
            assert list(caught.value.outcomes) == ids.held
            assert {getattr(each, "status", each) for each in caught.value.outcomes.values()} == {outcome}
        with pytest.raises(StoreUnavailable) as all_lost:
            await store.get_many(ids.lost)
        assert not isinstance(all_lost.value, PartlyUnavailable)
    await store.aclose()


async def test_waiters_for_what_other_nodes_hold_are_woken(ids: Ids) -> None:
    """Beside them, others wait for what the frozen node holds."""
    settings = {**SETTINGS, "fallback_interval": 1000}
    async with Backend(ids.cluster.url, **settings) as backend, Backend(ids.cluster.url, **SETTINGS) as other:
        waiting = {i: asyncio.create_task(backend.AsyncResult(i).get(timeout=2 * PATIENCE)) for i in ids.all}

        async def watched() -> bool:
            return backend.stats().watched == len(ids.all)

        async def lost() -> bool:
            return backend.stats().reconnects > 1

        await eventually(watched)
        with ids.frozen():
            await eventually(lost)
            late = fresh_id()
            while ids.cluster.owner(KEY + late) is ids.victim:
                late = fresh_id()
            waiting[late] = asyncio.create_task(backend.AsyncResult(late).get(timeout=PATIENCE))
            await asyncio.gather(*(other.store_result(task_id, task_id, "SUCCESS") for task_id in [*ids.held, late]))
            for task_id in [*ids.held, late]:
                assert await waiting[task_id] == task_id
            assert not any(waiting[task_id].done() for task_id in ids.lost)
        for task_id in ids.lost:
            await eventually(partial(stores, other, task_id))
            assert await waiting[task_id] == task_id


async def stores(backend: Backend, task_id: str) -> bool:
    try:
        return await backend.store_result(task_id, task_id, "SUCCESS")
    except StoreUnavailable:
        return False


async def test_a_node_that_was_silent_is_tried_beside_those_who_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as server:
        link = Link(from_url(server.url, make_settings(SETTINGS)), lambda count: None, waits=False)
        await link.call([PING])
        with server.frozen():
            with pytest.raises(StoreUnavailable, match=r"no reply within 0\.5 s"):
                await link.call([PING])
            link._outage_ends += 1000
            opening, thawed = asyncio.Event(), asyncio.Event()
            open_as_usual = Address.open

            async def wait_and_open(address: Address, make_wire: Any) -> Any:
                opening.set()
                await thawed.wait()
                return await open_as_usual(address, make_wire)

            monkeypatch.setattr(Address, "open", wait_and_open)
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match=r"no reply within 0\.5 s"):
                    await link.call([PING])
            await opening.wait()
        thawed.set()

        async def answers() -> bool:
            try:
                return await link.call([PING]) == [b"PONG"]
            except StoreUnavailable:
                return False

        await eventually(answers)
        await link.aclose()
