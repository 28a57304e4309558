"""A Celery application's results are looked for in that database of Redis in which Celery keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.backends.redis import RedisBackend

from aioresult.integrations.celery import backend_from_app
from tests.integrations.celery.workers import application
from tests.servers import RedisServer

PLACES: dict[str, tuple[dict[str, Any], int]] = {
    "a name and a number": ({"backend": "redis", "redis_db": 5}, 5),
    "a name alone": ({"backend": "redis"}, 0),
    "a class and a number": ({"backend": RedisBackend, "redis_db": 5}, 5),
    "a URL without a number": ({"backend": "redis://", "redis_db": 5}, 0),
    "a URL with a slash at its end": ({"backend": "redis://{host}/", "redis_db": 5}, 0),
    "a URL with a number": ({"backend": "redis://{host}/3", "redis_db": 5}, 3),
    "a number in the query": ({"backend": "redis://{host}/3?db=4", "redis_db": 5}, 4),
    "virtual_host, which is for sockets": ({"backend": "redis://{host}/3?virtual_host=4"}, 3),
    "a socket without a number": ({"backend": "redis+socket://{socket}", "redis_db": 5}, 5),
    "a socket with a number": ({"backend": "redis+socket://{socket}?virtual_host=4", "redis_db": 5}, 4),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("what", PLACES)
async def test_it_is_the_database_that_celery_takes(what: str, server: RedisServer) -> None:
    server.flush()
    place, number = PLACES[what]
    if isinstance(place["backend"], str):
        url = place["backend"].format(host=f"127.0.0.1:{server.port}", socket=server.unix_socket)
        place = {**place, "backend": url}
    settings = {"redis_host": "127.0.0.1", "redis_port": server.port, **place}
    with application(broker="memory://", **settings) as app:
        app.backend.store_result("there", 1, "SUCCESS")
        assert f"db{number}:keys=1" in str(server.call("INFO", "keyspace"))
        async with backend_from_app(app) as backend:
            assert await backend.AsyncResult("there").get(timeout=10) == 1


def test_a_number_of_the_caller_s_fills_in() -> None:
    with application(broker="memory://", backend="redis://h", redis_db=5) as app:
        assert backend_from_app(app, redis_db=7).settings.redis_db == 7
