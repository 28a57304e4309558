"""What the Redis store keeps on the server, how it decides there, and what it says when something is refused."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from aioresult import AioResultError, Record, StoreUnavailable, states
from aioresult.testing.conformance import fresh_id
from tests.servers import RedisServer

if TYPE_CHECKING:
    from tests.stores.redis.conftest import Make

KEY = "celery-task-meta-"


def record(status: str = "SUCCESS", result: Any = 1, task_id: str | None = None) -> Record:
    return Record(id=task_id or fresh_id(), status=status, result=result)


# --- what is kept ---


async def test_key_channel_and_message_are_celerys(make: Make, client: Redis) -> None:
    store, done = make(global_keyprefix="app"), record()
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"app_{KEY}{done.id}")
        assert await store.put_many([done]) == [True]
        stored = await client.get(f"app_{KEY}{done.id}")
        message = await anext(m async for m in pubsub.listen() if m["type"] == "message")
    assert message["data"] == stored
    assert isinstance(stored, str)
    assert stored.startswith('{"status": "SUCCESS", "result": 1, ')
    assert json.loads(stored)["task_id"] == done.id


@pytest.mark.parametrize(
    ("expires", "milliseconds"), [(3600, 3_600_000), (10.5, 10_500), (0.25, 250), (None, -1), (0, -1)]
)
async def test_a_record_and_a_group_live_as_long_as_the_setting_says(
    make: Make, client: Redis, expires: float | None, milliseconds: int
) -> None:
    store, done = make(result_expires=expires), record()
    await store.put_many([done])
    await store.put_group(done.id, [[done.id, None], None])
    for key in (KEY + done.id, f"celery-taskset-meta-{done.id}"):
        left = await client.pttl(key)
        assert left == -1 if milliseconds == -1 else milliseconds - 200 < left <= milliseconds


async def test_failures_may_live_for_another_time_and_every_write_renews_it(make: Make, client: Redis) -> None:
    store, task_id = make(result_expires=100, result_failure_expires=0), fresh_id()
    await store.put_many([record("STARTED", None, task_id)])
    await client.expire(KEY + task_id, 5)
    await store.put_many([record("PROGRESS", 1, task_id)])
    assert await client.ttl(KEY + task_id) > 90
    await store.put_many([record("FAILURE", ValueError(1), task_id)])
    assert await client.ttl(KEY + task_id) == -1


async def test_a_group_is_announced_as_celery_announces_it(make: Make, client: Redis) -> None:
    group_id = fresh_id()
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"celery-taskset-meta-{group_id}")
        await make().put_group(group_id, [[group_id, None], [[["a", None], None]]])
        message = await anext(m async for m in pubsub.listen() if m["type"] == "message")
    assert json.loads(message["data"]) == {"result": [[group_id, None], [[["a", None], None]]]}


async def test_an_empty_value_is_no_result_and_may_be_replaced(make: Make, client: Redis) -> None:
    store, task_id = make(), fresh_id()
    await client.set(KEY + task_id, "")
    assert await store.get_many([task_id]) == {}
    assert await store.put_many([record("STARTED", None, task_id)]) == [True]


# --- states never go backwards ---


@pytest.mark.parametrize("compact", [False, True], ids=["Celery's JSON", "compact JSON"])
@pytest.mark.parametrize("old", ["SUCCESS", "FAILURE", "REVOKED", "STARTED", "SUCCESSFUL", "FAIL", "A" * 60])
async def test_the_server_sees_the_state_of_plain_json(make: Make, client: Redis, old: str, compact: bool) -> None:
    store = make()
    await store.put_many([record()])  # from now on the server knows the script
    for new in ("STARTED", "FAILURE", "SUCCESS"):
        task_id = fresh_id()
        value = {"status": old, "result": None, "task_id": task_id}
        await client.set(KEY + task_id, json.dumps(value, separators=(",", ":") if compact else None))
        before = store.commands
        assert await store.put_many([record(new, None, task_id)]) == [states.replaces(new, old)]
        assert store.commands == before + 1


@pytest.mark.parametrize(
    "other", [{"result_serializer": "msgpack"}, {"result_compression": "zlib"}, {"result_serializer": "yaml"}], ids=str
)
async def test_a_state_that_the_server_cannot_see_is_decoded_here(make: Make, other: dict[str, Any]) -> None:
    writer = make(**other)
    reader = make(**other, result_accept_content=["json", "msgpack", "yaml"])
    for old, new in [("STARTED", "PROGRESS"), ("SUCCESS", "FAILURE"), ("FAILURE", "STARTED"), ("FAILURE", "SUCCESS")]:
        task_id = fresh_id()
        assert await writer.put_many([record(old, "old", task_id)]) == [True]
        assert await reader.put_many([record(new, "new", task_id)]) == [states.replaces(new, old)]
        status = (await writer.get_many([task_id]))[task_id].status
        assert status == (new if states.replaces(new, old) else old)


async def test_what_nobody_can_read_may_be_replaced(make: Make, client: Redis) -> None:
    store, task_id = make(), fresh_id()
    await client.set(KEY + task_id, "garbage")
    assert await store.put_many([record("STARTED", None, task_id)]) == [True]


async def test_an_old_value_that_changes_while_it_is_judged_is_judged_again(
    make: Make, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, task_id = make(result_serializer="msgpack"), fresh_id()
    meanwhile = iter(["STARTED", "PROGRESS", "SUCCESS"])
    judge = store._may_replace

    def judge_too_late(*args: Any) -> bool:
        verdict: bool = judge(*args)
        if (state := next(meanwhile, None)) is not None:
            server.set(KEY + task_id, store.codec.encode_record(record(state, None, task_id)))
        return verdict

    with BlockingRedis(**_place(client)) as server:
        server.set(KEY + task_id, store.codec.encode_record(record("RECEIVED", None, task_id)))
        monkeypatch.setattr(store, "_may_replace", judge_too_late)
        assert await store.put_many([record("FAILURE", ValueError(1), task_id)]) == [False]
    assert (await store.get_many([task_id]))[task_id].status == "SUCCESS"


def _place(client: Redis) -> dict[str, Any]:
    options = client.connection_pool.connection_kwargs
    return {name: options[name] for name in ("host", "port", "db", "username", "password") if name in options}


WRITER = """
import asyncio, random, sys
from aioresult import Backend, states

async def main(url, seed, *ids):
    rng = random.Random(seed)
    async with Backend(url) as backend:
        for _ in range(20):
            await asyncio.gather(*(write(backend, rng.choice(STATES), task_id) for task_id in ids))

async def write(backend, state, task_id):
    outcome = ValueError(state) if state in states.EXCEPTION_STATES else state
    await backend.store_result(task_id, outcome, state)

STATES = ["STARTED"] * 6 + ["PROGRESS"] * 6 + ["RETRY", "FAILURE", "REVOKED", "SUCCESS"]
asyncio.run(main(*sys.argv[1:]))
"""


async def test_writers_in_several_processes_never_let_a_state_go_backwards(redis_url: str, client: Redis) -> None:
    seed = str(random.randrange(2**32))
    print("seed", seed)
    ids = [fresh_id() for _ in range(30)]
    history: dict[str, list[str]] = {task_id: [] for task_id in ids}
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(*(KEY + task_id for task_id in ids))
        command = [sys.executable, "-c", WRITER, redis_url]
        writers = [await asyncio.create_subprocess_exec(*command, seed + str(n), *ids) for n in range(3)]
        assert [await writer.wait() for writer in writers] == [0, 0, 0]
        while (message := await pubsub.get_message(timeout=0.5)) is not None:
            if message["type"] == "message":
                history[message["channel"].removeprefix(KEY)].append(json.loads(message["data"])["status"])
    assert sum(map(len, history.values())) > 2 * len(ids)
    for task_id, seen in history.items():
        assert all(states.replaces(new, old) for old, new in pairwise(seen)), seen
        assert json.loads(str(await client.get(KEY + task_id)))["status"] == seen[-1]


# --- the script, and the cost ---


async def test_a_script_that_the_server_has_forgotten_is_sent_again(make: Make, client: Redis) -> None:
    store = make()
    assert await store.put_many([record() for _ in range(3)]) == [True] * 3
    await client.script_flush()
    before = store.commands
    assert await store.put_many([record() for _ in range(50)]) == [True] * 50
    assert store.commands == before + 100
    assert await store.put_many([record()]) == [True]
    assert store.commands == before + 101


async def test_a_thousand_are_read_written_and_deleted_by_as_few_commands_as_can_be(make: Make) -> None:
    store, records = make(), [record(result=number) for number in range(1000)]
    ids = [each.id for each in records]
    await store.put_many([record()])
    before = store.commands
    assert await store.put_many(records) == [True] * 1000
    assert store.commands == before + 1000
    assert len(await store.get_many(ids)) == 1000
    assert store.commands == before + 1001
    await store.delete_many(ids)
    assert store.commands == before + 1002
    assert await store.get_many(ids) == {}


async def test_very_many_are_read_and_deleted_in_pieces(make: Make) -> None:
    store, records = make(), [record(result=number) for number in range(3000)]
    assert await store.put_many(records) == [True] * 3000
    found = await store.get_many([each.id for each in records])
    assert [found[each.id].result for each in records] == list(range(3000))
    await store.delete_many([each.id for each in records])
    assert await store.get_many([each.id for each in records]) == {}


async def test_calls_of_different_kinds_share_one_connection(make: Make, client: Redis) -> None:
    store, done = make(redis_client_name="just-one"), record()
    await store.put_many([done])
    await asyncio.gather(
        store.get_many([done.id]), store.put_many([record()]), store.delete_many([done.id]), store.ping()
    )
    names = [connection["name"] for connection in await client.client_list()]
    assert names.count("just-one") == 1
    await store.aclose()
    await store.aclose()


# --- what is refused ---


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and whatever would be shown with it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


@pytest.fixture
def small_server() -> Iterator[RedisServer]:
    with RedisServer(password="sesame", maxmemory="10mb") as server:
        yield server


async def test_a_full_server_is_unavailable_for_writing_and_still_read(make: Make, small_server: RedisServer) -> None:
    store, done = make(small_server.url), record()
    await store.put_many([done])
    small_server.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="OOM"):
        await store.put_many([record(), record()])
    assert (await store.get_many([done.id]))[done.id].result == 1


async def test_eviction_is_reported(make: Make, small_server: RedisServer) -> None:
    small_server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    details = (await make(small_server.url).capabilities()).details
    assert "may vanish" in details["eviction"]
    assert details["server"].startswith(("Redis ", "Valkey "))
    small_server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert (await make(small_server.url).capabilities()).details["eviction"] == "noeviction"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_wrong_or_missing_password_is_told_and_not_shown(
    make: Make, small_server: RedisServer, protocol: int
) -> None:
    place = f"127.0.0.1:{small_server.port}/0"
    for credentials in (":wrongword@", "user:wrongword@", ""):
        store = make(f"redis://{credentials}{place}?protocol={protocol}")
        said = "authentication failed" if credentials else "asks for a password"
        with pytest.raises(StoreUnavailable, match=said) as caught:
            await store.ping()
        assert place in str(caught.value)
        assert not any("wrongword" in repr(exc) + str(exc) for exc in chain(caught.value))


async def test_a_key_of_another_type_hurts_its_own_record_only(make: Make, client: Redis) -> None:
    store, bad, good = make(), fresh_id(), record()
    await client.rpush(KEY + bad, "x")
    assert await store.put_many([good]) == [True]
    assert list(await store.get_many([bad, good.id])) == [good.id]
    with pytest.raises(AioResultError, match="WRONGTYPE"):
        await store.put_many([record(task_id=bad), good])


# --- connections that die ---


async def test_a_connection_that_was_cut_while_idle_is_replaced_unnoticed(make: Make, client: Redis) -> None:
    store, done = make(redis_client_name="to-be-cut"), record()
    with BlockingRedis(**_place(client)) as other:
        for turns in range(5):  # of the loop, for the news to spread
            await store.put_many([done])
            for connection in other.client_list():
                if connection["name"] == "to-be-cut":
                    other.client_kill_filter(_id=connection["id"])
            for _ in range(turns):
                await asyncio.sleep(0)
            assert (await store.get_many([done.id]))[done.id].result == 1


async def test_a_restarted_server_is_met_with_a_new_connection(make: Make, small_server: RedisServer) -> None:
    store = make(small_server.url)
    await store.put_many([record()])
    small_server.kill()
    with pytest.raises(StoreUnavailable, match=str(small_server.port)):
        await store.put_many([record()])
    small_server.start()
    assert await store.put_many([record()]) == [True]


async def test_calls_under_way_when_the_server_dies_end_by_an_error(make: Make, small_server: RedisServer) -> None:
    store = make(small_server.url)
    await store.ping()
    small_server.call("CLIENT", "PAUSE", 60_000)
    calls = [asyncio.create_task(call) for call in (store.get_many(["a"]), store.put_many([record()]), store.ping())]
    await asyncio.sleep(0)
    small_server.kill()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3


async def test_a_cancelled_call_leaves_the_replies_of_others_in_order(make: Make) -> None:
    store, first, second = make(), record(result="first"), record(result="second")
    await store.put_many([first, second])
    cancelled = asyncio.create_task(store.get_many([first.id]))
    kept = asyncio.create_task(store.get_many([second.id]))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await kept)[second.id].result == "second"
    assert (await store.get_many([first.id]))[first.id].result == "first"
