"""The plugin on Redis in its other forms: behind a password and a socket, behind Sentinel, and as a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import chord, group
from celery.result import GroupResult

from tests.integrations.celery.conftest import broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisClusterServers, RedisSentinels, RedisServer

WAIT = 20.0


@contextmanager
def unix_socket() -> Iterator[dict[str, Any]]:
    with RedisServer(password="secret") as server:
        yield {"backend": f"aioresult+{server.unix_url}"}


@contextmanager
def unix_socket_in_a_word() -> Iterator[dict[str, Any]]:
    with RedisServer(password="secret") as server:
        yield {"backend": f"aioresult+{server.unix_url.removeprefix('redis+')}"}


@contextmanager
def valkey() -> Iterator[dict[str, Any]]:
    with RedisServer() as server:
        yield {"backend": f"aioresult+{server.url.replace('redis', 'valkey')}"}


@contextmanager
def sentinel() -> Iterator[dict[str, Any]]:
    with RedisSentinels(password="secret") as servers:
        url = ";".join(f"sentinel://:secret@{host}:{port}/0" for host, port in servers.addresses)
        yield {
            "backend": f"aioresult+{url}",
            "result_backend_transport_options": {"master_name": servers.service, "global_keyprefix": "shop"},
        }


@contextmanager
def sentinel_in_one_url() -> Iterator[dict[str, Any]]:
    with RedisSentinels(password="se/cret", sentinel_password="own") as servers:
        places = ",".join(f"{host}:{port}" for host, port in servers.addresses)
        url = f"redis+sentinel://:se%2Fcret@{places}/{servers.service}/0?sentinel_password=own"
        yield {"backend": f"aioresult+{url}"}


@contextmanager
def shouted() -> Iterator[dict[str, Any]]:
    with RedisServer() as server:
        yield {"backend": f"aioresult+{server.url.replace('redis', 'REDIS')}"}


@contextmanager
def cluster() -> Iterator[dict[str, Any]]:
    with RedisClusterServers() as servers:
        yield {"backend": f"aioresult+{servers.url}"}


@pytest.mark.parametrize(
    "servers", [unix_socket, unix_socket_in_a_word, valkey, sentinel, sentinel_in_one_url, shouted, cluster]
)
def test_tasks_groups_and_chords_work_there_too(servers: Any, celery_redis: RedisServer, keyprefix: str) -> None:
    with servers() as place:
        settings = {**broker_settings(celery_redis, keyprefix), **place}
        with Worker(pool="prefork", concurrency=2, **settings) as worker, application(**settings) as app:
            add, total = app.tasks["tests.add"], app.tasks["tests.total"]
            assert add.delay(2, 3).get(timeout=WAIT) == 5
            members = group(add.s(i, i) for i in range(5))()
            members.save()
            assert GroupResult.restore(members.id, app=app).get(timeout=WAIT) == [0, 2, 4, 6, 8]
            assert chord([add.s(i, i) for i in range(5)])(total.s()).get(timeout=WAIT) == 20
            assert "secret" not in worker.log
            assert ("chord_unlock" in worker.log) == (servers is cluster), "elsewhere Redis counts"
