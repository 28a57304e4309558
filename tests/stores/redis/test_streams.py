"""Streams on Redis: where they are kept, what is said of them, and what the server does by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.crc import key_slot

from aioresult import AccessDenied, Backend, InvalidTaskId, StreamEnded
from aioresult.stores.redis.streams import news_of, sharing_slot
from aioresult.stream import LOOK, News
from aioresult.testing.streams import numbered, read
from tests.servers import RedisServer


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[Backend]:
    async with Backend(redis_url) as backend:
        yield backend


@given(st.text(alphabet="ab{}", min_size=1, max_size=8), st.sampled_from(["", "app_", "{app}_"]))
@example("a}b", "")
@example("{}", "")
def test_a_stream_has_the_slot_of_its_record_or_no_name(task_id: str, prefix: str) -> None:
    record = f"{prefix}celery-task-meta-{task_id}"
    try:
        stream = sharing_slot(record, f"{prefix}celery-task-stream-{task_id}", task_id)
    except InvalidTaskId:
        assert "}" in record
    else:
        assert stream.startswith(f"{prefix}celery-task-stream-")
        assert key_slot(stream.encode()) == key_slot(record.encode())


def test_different_tasks_have_different_streams() -> None:
    ids = ["a", "a}", "{a}", "{a", "x{a}y", "celery-task-meta-a"]
    names = set()
    for task_id in ids:
        try:
            names.add(sharing_slot(f"celery-task-meta-{task_id}", f"celery-task-stream-{task_id}", task_id))
        except InvalidTaskId:
            names.add(task_id)
    assert len(names) == len(ids)


def test_messages_say_what_is_new() -> None:
    assert news_of(b"17 5:hello 0: 3:a b") == News(17, [b"hello", b"", b"a b"])
    assert news_of(b"17") is LOOK


async def test_a_stream_is_a_list_that_lives_as_long_as_a_result(client: Redis, redis_url: str) -> None:
    async with Backend(redis_url, result_expires=100) as backend:
        await backend.append("t", "a")
        await client.pexpire("celery-task-stream-t", 10_000)
        await backend.append("t", "b")
        assert 99_000 < await client.pttl("celery-task-stream-t") <= 100_000
        assert await client.llen("celery-task-stream-t") == 3
    async with Backend(redis_url, result_expires=None) as backend:
        await backend.append("t", "c")
        assert await client.ttl("celery-task-stream-t") == -1


async def test_what_is_too_large_for_everybody_is_read_by_who_needs_it(backend: Backend, client: Redis) -> None:
    async with client.pubsub() as subscriber:
        await subscriber.subscribe("celery-task-stream-t")
        await subscriber.get_message(timeout=10)
        reading = asyncio.create_task(read(backend, "t"))
        await backend.append("t", "x" * 20_000)
        await backend.append("t", "small")
        await backend.mark_as_done("t", None)
        messages = [await subscriber.get_message(timeout=10) for _ in range(2)]
    assert [message["data"].partition(b" ")[0] for message in messages if message is not None] == [b"1", b"2"]
    assert messages[0] is not None
    assert len(messages[0]["data"]) == 1
    assert await reading == numbered(["x" * 20_000, "small"])


async def test_a_server_that_has_forgotten_its_scripts_is_given_them_again(backend: Backend, client: Redis) -> None:
    await backend.append("t", 1)
    await client.script_flush()
    assert list(await asyncio.gather(backend.append("t", 2), backend.append("u", 1))) == [2, 1]


async def test_many_items_of_one_call_are_one_step(backend: Backend) -> None:
    assert await backend.append("t", *range(9_500)) == 9_500
    await backend.mark_as_done("t", None)
    assert await read(backend, "t", after=9_490) == [(n, n - 1) for n in range(9_491, 9_501)]


@pytest.mark.parametrize("settings", [{"result_serializer": "msgpack"}, {"result_compression": "zlib"}])
async def test_a_final_state_that_the_server_cannot_see_ends_a_stream_too(
    redis_url: str, settings: dict[str, str]
) -> None:
    async with Backend(redis_url, **settings) as backend:
        await backend.update_state("t", "PROGRESS", {"done": 1})
        assert await backend.append("t", 1) == 1
        await backend.mark_as_done("t", None)
        with pytest.raises(StreamEnded):
            await backend.append("t", 2)
        assert await read(backend, "t") == [(1, 1)]


async def test_a_user_without_the_rights_is_told_which_are_needed(redis_server: RedisServer, client: Redis) -> None:
    await client.execute_command("ACL SETUSER poor on >pw ~* &* +@all -evalsha -eval")  # type: ignore[no-untyped-call]  # it has no types
    url = redis_server.url.replace("redis://", "redis://poor:pw@")
    async with Backend(url) as backend:
        with pytest.raises(AccessDenied, match=r"denies it.*evalsha"):
            await backend.append("t", 1)
    await client.acl_deluser("poor")
