"""PostgreSQL wakes its waiters by notifications, and survives what happens to the connection that listens."""

from __future__ import annotations

import asyncio
import random
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aioresult import Backend, subscription
from aioresult.errors import AccessDenied, StoreUnavailable, Unsupported
from aioresult.stores import notices
from aioresult.stores.sqlalchemy.admin import create_tables, install_trigger, uninstall_trigger
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.dialects.postgresql import PostgreSQLDialect, channel_expression, channel_of
from aioresult.stores.sqlalchemy.feeds import listeners
from aioresult.stores.sqlalchemy.feeds import postgresql as feeds
from aioresult.stores.sqlalchemy.link import Link
from aioresult.testing.conformance import Collected, eventually
from tests.servers import ExternalServer, PostgresServer, TcpProxy
from tests.stores.sqlalchemy.sql import (
    FOR_CELERY,
    PATIENCE,
    foreign_writer,
    on_postgresql,
    sql_store,
    until_silent,
    until_watched,
    waiting_for,
)
from tests.stores.sqlalchemy.test_postgresql import DRIVERS, terminate_others

PUSH_ONLY: dict[str, Any] = {"fallback_interval": 3600, "idle_timeout": 0.05, "database_trigger": False}
"""Settings with which nothing but a notification can wake a waiter."""
MIXED: dict[str, Any] = {"fallback_interval": 3600, "idle_timeout": 0.05}
"""Settings with which foreign writers are polled as long as nothing announces what they store."""
NEVER: dict[str, Any] = {"poll_interval": 3600, "poll_min_interval": 3600}
"""Further ones with which that polling never comes to its turn."""


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    return postgres_url.replace("asyncpg", request.param)


@pytest_asyncio.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url, **PUSH_ONLY) as backend:
        yield backend


@pytest_asyncio.fixture
async def other(url: str) -> AsyncIterator[Backend]:
    async with Backend(url) as other:
        yield other


@pytest_asyncio.fixture
async def collected(backend: Backend) -> AsyncIterator[Collected]:
    """The events of a feed of its own."""
    feed = await sql_store(backend).feed()
    assert feed is not None
    collected = Collected(feed)
    yield collected
    await collected.aclose()


# --- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["a", "\u4e2d\u6587 \U0001f600", "x" * 155, "'quoted\"; --"])
async def test_the_server_finds_the_same_channel_as_we_do(url: str, task_id: str) -> None:
    expression = channel_expression("%s", "%s::text")
    assert on_postgresql(url, f"SELECT {expression}", "prefix_", task_id) == [(channel_of("prefix_", task_id),)]


async def test_a_process_listens_only_where_what_it_waits_for_may_be_announced(
    backend: Backend, other: Backend, collected: Collected
) -> None:
    feed = collected.feed
    assert isinstance(feed, feeds.NotificationFeed)
    await feed.watch(["a"])
    assert list(feed._listening) == [channel_of(feed._prefix, "a")]
    await feed.watch([f"id-{number}" for number in range(200)])
    assert len(feed._listening) == 16
    await feed.unwatch([f"id-{number}" for number in range(200)])
    assert list(feed._listening) == [channel_of(feed._prefix, "a")]
    collected.events.clear()
    await asyncio.gather(*(other.store_result(f"id-{number}", number, "SUCCESS") for number in range(200)))
    await other.store_result("a", 1, "SUCCESS")
    await collected.expect(lambda events: ("a", None) in events)
    assert {task_id for task_id, _ in collected.events} == {"a"}


@pytest.mark.all_loops
async def test_progress_is_announced_too(backend: Backend, other: Backend) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def follow() -> None:
        async for record in backend.AsyncResult("a").updates(timeout=PATIENCE):
            if record.status != "PENDING":
                heard.put_nowait(record.result)

    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        await until_watched(backend, 1)
        for step in range(4):
            await other.store_result("a", step, "PROGRESS")
            assert await heard.get() == step
        await other.store_result("a", "done", "SUCCESS")
        assert await heard.get() == "done"


async def test_what_is_not_written_is_not_announced(backend: Backend, other: Backend, collected: Collected) -> None:
    await other.store_result("a", 1, "SUCCESS")
    await collected.feed.watch(["a", "b"])
    await collected.expect(lambda events: len(events) == 2)
    assert not await other.store_result("a", 2, "SUCCESS")
    await other.store_result("b", 1, "SUCCESS")
    await collected.expect(lambda events: len(events) > 2)
    assert collected.events[2:] == [("b", None)]


# --- foreign writers --------------------------------------------------------------------------------------------------


async def test_with_the_trigger_celerys_results_wake_waiters(url: str) -> None:
    async with (
        Backend(url, **MIXED, **NEVER, **FOR_CELERY, database_trigger=True) as backend,
        foreign_writer(url) as writer,
    ):
        await backend.store_result("known", None, "STARTED")
        waiters = await waiting_for(backend, ["new", "known"])
        await writer.store("known", 1)
        await writer.store("new", 2)
        assert await asyncio.gather(*waiters) == [2, 1]


async def test_without_the_trigger_celerys_results_are_polled_and_ours_are_pushed_beside(url: str) -> None:
    async with (
        Backend(url, **MIXED, **FOR_CELERY) as backend,
        Backend(url, **MIXED, **NEVER) as deaf,
        Backend(url) as ours,
        foreign_writer(url) as theirs,
    ):
        await backend.store_result("known", None, "STARTED")
        waiters = await waiting_for(backend, ["new", "known"])
        (pushed,) = await waiting_for(deaf, ["pushed"])
        await theirs.store("known", 1)
        await theirs.store("new", 2)
        await ours.store_result("pushed", 3, "SUCCESS")
        assert await asyncio.gather(*waiters, pushed) == [2, 1, 3]
        capabilities = await backend.capabilities()
    assert capabilities.push
    assert re.search(r"Celery's workers.*polled.*celery_taskmeta.*`aioresult sql install-trigger`", capabilities.reason)


async def test_progress_of_celerys_tasks_is_polled_too(url: str) -> None:
    async with Backend(url, **MIXED) as backend, foreign_writer(url) as writer:
        seen: list[str] = []
        await writer.store("a", None, "STARTED")
        async for record in backend.AsyncResult("a").updates(timeout=PATIENCE):
            seen.append(record.status)
            if not record.ready:
                await writer.store("a", None, "PROGRESS" if record.status == "STARTED" else "SUCCESS")
        assert seen == ["STARTED", "PROGRESS", "SUCCESS"]


@pytest.mark.parametrize("all_states", [False, True])
async def test_polling_ends_when_the_trigger_comes_and_begins_when_it_goes(
    url: str, monkeypatch: pytest.MonkeyPatch, all_states: bool
) -> None:
    monkeypatch.setattr(feeds.NotificationFeed, "patience", 0.2)
    async with Backend(url, **MIXED, poll_interval=0.05) as backend, foreign_writer(url) as writer:
        (first, second, third) = await waiting_for(backend, ["first", "second", "third"])
        await writer.store("first", 1)
        assert await first == 1
        await install_trigger(sql_store(backend), all_states=all_states)
        await eventually(lambda: _polls(backend, False))
        await writer.store("second", 2)
        assert await second == 2
        assert (await backend.capabilities()).reason == ""
        await uninstall_trigger(sql_store(backend))
        await eventually(lambda: _polls(backend, True))
        await writer.store("third", 3)
        assert await third == 3


async def _polls(backend: Backend, expected: bool) -> bool:
    """Return whether ``backend`` polls beside its notifications, or does not, as ``expected``."""
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert backend.stats().waiting
    return ("aioresult polling beside notifications" in names) is expected


async def test_where_there_are_no_foreign_writers_nothing_is_polled_and_that_is_said(backend: Backend) -> None:
    (waiter,) = await waiting_for(backend, ["a"])
    assert await _polls(backend, False)
    assert "database_trigger=False" in (await backend.capabilities()).reason
    await backend.store_result("a", 1, "SUCCESS")
    assert await waiter == 1


async def test_the_trigger_announces_final_states_or_all(backend: Backend, url: str, collected: Collected) -> None:
    store = sql_store(backend)
    await collected.feed.watch(["a"])
    await collected.expect(lambda events: len(events) == 1)
    async with foreign_writer(url) as writer:
        assert await install_trigger(store)
        await writer.store("a", None, "STARTED")
        await writer.store("a", ["ValueError"], "SUCCESS")
        await collected.expect(lambda events: len(events) == 2)
        assert await install_trigger(store, all_states=True)
        await collected.feed.watch(["b"])
        await writer.store("b", None, "STARTED")
        await writer.store("b", 1, "SUCCESS")
        await collected.expect(lambda events: events.count(("b", None)) >= 3)
    assert collected.events.count(("a", None)) == 2


async def test_what_we_write_is_announced_once_trigger_or_not(
    backend: Backend, other: Backend, collected: Collected
) -> None:
    await install_trigger(sql_store(backend), all_states=True)
    await collected.feed.watch(["a", "b"])
    await other.store_result("a", 1, "SUCCESS")
    await other.store_result("b", 1, "SUCCESS")
    await collected.expect(lambda events: events.count(("b", None)) >= 2)
    assert collected.events.count(("a", None)) == 2


async def test_installing_and_uninstalling_twice_is_harmless(backend: Backend, url: str) -> None:
    store = sql_store(backend)
    triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
    functions = "SELECT count(*) FROM pg_proc WHERE proname = 'aioresult_notify'"
    assert not await uninstall_trigger(store)
    assert [await install_trigger(store) for _ in range(2)] == [True, False]
    assert (await backend.capabilities()).details["trigger"] == "ready states"
    assert on_postgresql(url, triggers) == on_postgresql(url, functions) == [(1,)]
    names = {"database_table_names": {"task": "others"}}
    async with Backend(url, **names) as others:
        await asyncio.gather(*(install_trigger(sql_store(others)) for _ in range(3)))
        assert on_postgresql(url, triggers) == [(2,)]
        assert await uninstall_trigger(store)
        assert on_postgresql(url, functions) == [(1,)], "the other table still needs it"
        assert await uninstall_trigger(sql_store(others))
    assert on_postgresql(url, triggers) == on_postgresql(url, functions) == [(0,)]


async def test_opening_with_the_setting_keeps_an_operators_trigger_for_all_states(backend: Backend, url: str) -> None:
    store = sql_store(backend)
    assert await install_trigger(store, all_states=True)
    async with Backend(url, database_trigger=True) as opened:
        await opened.ping()
        assert await _trigger(opened) == "all states"
    assert await install_trigger(store), "an operator may have it announce less"
    assert await _trigger(backend) == "ready states"


async def test_of_installations_at_the_same_time_the_one_for_all_states_stays(backend: Backend, url: str) -> None:
    await backend.ping()
    others = [Backend(url, database_trigger=True) for _ in range(4)]
    await asyncio.gather(install_trigger(sql_store(backend), all_states=True), *(other.fetch("a") for other in others))
    assert await _trigger(backend) == "all states"
    await asyncio.gather(*(other.aclose() for other in others))


async def test_a_trigger_that_announces_nothing_here_is_installed_again(backend: Backend, url: str) -> None:
    assert await install_trigger(sql_store(backend))
    on_postgresql(url, "ALTER TABLE celery_taskmeta DISABLE TRIGGER aioresult_notify")
    assert await _trigger(backend) == "disabled"
    assert [await install_trigger(sql_store(backend)) for _ in range(2)] == [True, False]
    assert await _trigger(backend) == "ready states"
    on_postgresql(url, "COMMENT ON TRIGGER aioresult_notify ON celery_taskmeta IS 'another one'")
    assert await _trigger(backend) == "installed by something else"
    async with Backend(url, database_trigger=True) as opened:
        assert await _trigger(opened) == "ready states"


async def test_after_the_table_was_renamed_the_trigger_is_installed_again_and_announces(
    backend: Backend, url: str
) -> None:
    assert await install_trigger(sql_store(backend))
    on_postgresql(url, "ALTER TABLE celery_taskmeta RENAME TO moved")
    async with Backend(url, database_table_names={"task": "moved"}, **PUSH_ONLY) as moved:
        assert await _trigger(moved) == "installed before the table was renamed"
        assert [await install_trigger(sql_store(moved)) for _ in range(2)] == [True, False]
        (waiter,) = await waiting_for(moved, ["a"])
        on_postgresql(url, "INSERT INTO moved (id, task_id, status, result) VALUES (1, 'a', 'SUCCESS', '1')")
        assert await waiter == 1


async def _trigger(backend: Backend) -> str:
    return (await backend.capabilities()).details["trigger"]


async def test_a_lacking_right_is_explained_and_polling_takes_the_triggers_place(
    backend: Backend, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices, "_given", set())
    worker_url = url.replace("//postgres@", "//worker@")
    await create_tables(sql_store(backend))
    on_postgresql(url, "CREATE ROLE worker LOGIN")
    try:
        on_postgresql(url, "GRANT USAGE ON SCHEMA public TO worker")
        on_postgresql(url, "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO worker")
        async with Backend(worker_url) as worker:
            with pytest.raises(AccessDenied, match=r"owner of the table public\.celery_taskmeta.*install-trigger"):
                await install_trigger(sql_store(worker))
            async with Backend(worker_url, **MIXED, database_trigger=True) as asking, foreign_writer(url) as writer:
                (waiter,) = await waiting_for(asking, ["a"])
                await writer.store("a", 1)
                assert await waiter == 1
                assert "install-trigger" in (await asking.capabilities()).reason
            async with Backend(worker_url, database_trigger=True) as again:
                assert (await again.fetch("a")).result == 1
    finally:
        on_postgresql(url, "DROP OWNED BY worker")
        on_postgresql(url, "DROP ROLE worker")
    (warning,) = [record.message for record in caplog.records if "polled" in record.message]
    assert "owner of the table public.celery_taskmeta" in warning


async def test_other_databases_have_no_such_trigger() -> None:
    async with Backend("sqlite://") as backend:
        with pytest.raises(Unsupported, match="only PostgreSQL"):
            await install_trigger(backend._runtime.store)
    async with Backend("memory://") as backend:
        with pytest.raises(Unsupported, match="no SQL database"):
            await install_trigger(backend._runtime.store)


# --- bad days ---------------------------------------------------------------------------------------------------------


@pytest.mark.all_loops
async def test_waiters_survive_that_the_server_cuts_connections_at_random_moments(
    backend: Backend, other: Backend, url: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ids = [f"id-{number}" for number in range(500)]
    waiters = await waiting_for(backend, ids)
    for start in range(0, 500, 50):
        if chance.random() < 0.5:
            await asyncio.to_thread(terminate_others, url)
        batch = [(task_id, other.store_result(task_id, task_id, "SUCCESS")) for task_id in ids[start : start + 50]]
        await asyncio.gather(*(write for _, write in batch))
        if chance.random() < 0.5:
            await asyncio.to_thread(terminate_others, url)
    await asyncio.to_thread(terminate_others, url)
    assert await asyncio.gather(*waiters) == ids
    assert backend.stats().reconnects >= 1


async def test_a_restart_costs_the_feed_one_reconnect_however_many_connections_had_been_open(
    backend: Backend, other: Backend, url: str
) -> None:
    (waiter,) = await waiting_for(backend, ["a"])
    all_are_in_use = asyncio.Barrier(3)

    async def use(_link: Link, _dialect: Dialect) -> None:
        await all_are_in_use.wait()

    await asyncio.gather(*(sql_store(backend).database.run(use) for _ in range(3)))
    assert on_postgresql(url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")[0][0] > 3
    await asyncio.to_thread(terminate_others, url)
    assert await other.store_result("a", 1, "SUCCESS")
    assert await waiter == 1
    assert backend.stats().reconnects == 1


async def test_waiters_survive_a_killed_server(
    backend: Backend, url: str, postgres_server: PostgresServer | ExternalServer
) -> None:
    ids = [f"id-{number}" for number in range(500)]
    waiters = await waiting_for(backend, ids)
    await asyncio.to_thread(postgres_server.kill)
    await asyncio.to_thread(postgres_server.start)
    async with Backend(url) as other:
        await asyncio.gather(*(other.store_result(task_id, task_id, "SUCCESS") for task_id in ids))
    assert await asyncio.gather(*waiters) == ids

    async def quiet() -> bool:
        return backend.stats().watched == backend.stats().waiting == 0

    await eventually(quiet)


async def test_a_connection_that_falls_silent_is_found_out(
    url: str, monkeypatch: pytest.MonkeyPatch, other: Backend
) -> None:
    monkeypatch.setattr(feeds.NotificationFeed, "patience", 0.05)
    monkeypatch.setattr(feeds, "_PROBE_DEADLINE", 0.2)
    async with TcpProxy(url) as proxy, Backend(proxy.url, **PUSH_ONLY) as backend:
        feed = await sql_store(backend).feed()
        assert isinstance(feed, feeds.NotificationFeed)
        feed._database = sql_store(other).database  # so that only the connection that listens goes through the proxy
        collected = Collected(feed)
        proxy.freeze()
        await asyncio.wait([collected._task])
        with pytest.raises(StoreUnavailable, match="silent"):
            collected._task.result()
        await proxy.resume()
        await collected.aclose()


class Swallowing(TcpProxy):
    """Forwards everything but notifications, as poolers in transaction mode do."""

    swallows = True

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        if way == "to the server" or not self.swallows:
            await super()._forward(source, target, way)
            return
        try:
            while (kind := await source.readexactly(1)) in (
                b"N",
                b"S",
            ):  # no to encryption; a message follows its length
                target.write(kind)
            while True:
                size = await source.readexactly(4)
                body = await source.readexactly(struct.unpack("!I", size)[0] - 4)
                if kind != b"A":
                    target.write(kind + size + body)
                kind = await source.readexactly(1)
        except asyncio.IncompleteReadError:
            return


async def test_a_pooler_that_swallows_notifications_means_polling_and_one_warning(
    url: str, other: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeds, "_PROBE_DEADLINE", 0.5)
    async with Swallowing(url) as proxy, Backend(proxy.url, poll_interval=0.05, **PUSH_ONLY) as backend:
        for name in ("a", "b"):
            (waiter,) = await waiting_for(backend, [name])
            await other.store_result(name, name, "SUCCESS")
            assert await waiter == name
        capabilities = await backend.capabilities()
        assert not capabilities.push
        assert "pooler" in capabilities.reason
    assert len([record for record in caplog.records if "pooler" in record.message]) == 1


async def test_once_notifications_arrive_again_waiters_are_pushed_to_again(
    url: str, other: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_PROBE_DEADLINE", 0.3)
    monkeypatch.setattr(feeds, "_NEXT_PROBE", 0.1)
    monkeypatch.setattr(subscription, "_SECOND_CHANCE", 0.2)
    async with Swallowing(url) as proxy, Backend(proxy.url, poll_interval=0.05, **PUSH_ONLY) as backend:
        (waiter, polled) = await waiting_for(backend, ["a", "b"])
        await other.store_result("b", "polled", "SUCCESS")
        assert await polled == "polled"
        assert not (await backend.capabilities()).push
        proxy.swallows = False
        proxy.cut()

        async def pushing() -> bool:
            return (await backend.capabilities()).push

        await eventually(pushing)
        await until_silent(backend)
        await other.store_result("a", "pushed", "SUCCESS")
        assert await waiter == "pushed"


async def test_a_listener_whose_connection_is_silent_fails_in_time(
    url: str, monkeypatch: pytest.MonkeyPatch, other: Backend
) -> None:
    monkeypatch.setattr(listeners, "_ANSWER", 0.2)
    async with TcpProxy(url) as proxy, Backend(proxy.url, **PUSH_ONLY) as backend:
        feed = await sql_store(backend).feed()
        assert isinstance(feed, feeds.NotificationFeed)
        await feed.watch(["a"])
        proxy.freeze()
        with pytest.raises(StoreUnavailable, match="listening connection"):
            await feed.watch([f"id-{number}" for number in range(100)])
        await feed.aclose()
        await proxy.resume()


async def test_a_connection_that_is_silent_when_the_feed_opens_is_no_pooler(
    url: str, monkeypatch: pytest.MonkeyPatch, other: Backend
) -> None:
    monkeypatch.setattr(listeners, "_ANSWER", 0.2)
    monkeypatch.setattr(feeds, "_PROBE_DEADLINE", 0.2)
    async with TcpProxy(url) as proxy, Backend(proxy.url, **PUSH_ONLY) as backend:
        await backend.ping()
        push = sql_store(backend)._push
        feed = feeds.NotificationFeed(push.database, await push.database.ready(), backend._runtime.store.get_many)

        async def freeze(_: float) -> bool:
            proxy.freeze()
            return False

        monkeypatch.setattr(feed, "_receives_own", freeze)
        with pytest.raises(StoreUnavailable, match="listening connection"):
            await feed.open(1.0)
        await feed.aclose()
        await proxy.resume()
        assert (await backend.capabilities()).push


async def test_a_feed_that_is_found_silent_while_it_takes_new_ids_is_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_ANSWER", 3600)
    monkeypatch.setattr(PostgreSQLDialect, "patience", 0.3)
    monkeypatch.setattr(feeds.NotificationFeed, "patience", 0.5)
    monkeypatch.setattr(feeds, "_PROBE_DEADLINE", 0.5)
    async with TcpProxy(postgres_url) as proxy, Backend(proxy.url, **PUSH_ONLY) as backend:
        (old,) = await waiting_for(backend, ["old"])
        proxy.silence()
        new = await waiting_for(backend, [f"id-{number}" for number in range(50)])

        async def replaced() -> bool:
            return backend.stats().reconnects > 0 and backend.stats().watched == 51

        await eventually(replaced)
        async with Backend(postgres_url) as other:
            await asyncio.gather(*(other.store_result(f"id-{number}", number, "SUCCESS") for number in range(50)))
            await other.store_result("old", "pushed", "SUCCESS")
        assert await asyncio.gather(*new) == list(range(50))
        assert await old == "pushed"


async def test_with_the_trigger_nothing_is_sent_while_nothing_happens(url: str) -> None:
    async with Backend(url, **MIXED, database_trigger=True) as owner, Backend(url, **MIXED) as backend:
        await owner.ping()
        (waiter,) = await waiting_for(backend, ["a"])
        await until_silent(backend)
        await owner.store_result("a", 1, "SUCCESS")
        assert await waiter == 1


async def test_nothing_is_sent_while_nothing_happens_and_nothing_is_left_behind(backend: Backend, url: str) -> None:
    await backend.ping()
    waiters = await waiting_for(backend, [f"id-{number}" for number in range(1000)])
    listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    assert on_postgresql(url, listening) == [(1,)]
    await until_silent(backend)
    for waiter in waiters:
        waiter.cancel()

    async def closed() -> bool:
        return backend.stats().watched == 0 and on_postgresql(url, listening) == [(0,)]

    await eventually(closed)
