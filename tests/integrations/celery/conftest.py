"""The broker of all Celery tests, one Redis of their own, and the stores that Celery can keep results in."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from aioresult import Backend
from aioresult.integrations.celery import backend_from_app
from tests.servers import MongoReplicaSet, PostgresServer, RedisServer
from tests.servers.process import HOST

STORES = ["redis", "mongodb", "sqlite", "postgresql"]


@pytest.fixture(scope="session")
def celery_redis() -> Iterator[RedisServer]:
    """A Redis for the broker (database 1) and for results (database 0)."""
    with RedisServer() as server:
        yield server


def broker_settings(server: RedisServer, prefix: str) -> dict[str, Any]:
    """Return the settings of a broker that nobody uses but those with the same prefix."""
    return {
        "broker": server.url.removesuffix("/0") + "/1",
        "broker_transport_options": {"global_keyprefix": prefix, "visibility_timeout": 3600},
    }


class Places:
    """Where the results of each store go: URLs as a Celery configuration has them."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder

    def url(self, store: str) -> str:
        match store:
            case "redis":
                redis: RedisServer = self._request.getfixturevalue("celery_redis")
                return redis.url
            case "mongodb":
                mongo: MongoReplicaSet = self._request.getfixturevalue("mongo_replica_set")
                return mongo.url
            case "postgresql":
                postgres: PostgresServer = self._request.getfixturevalue("postgres_server")
                return f"db+{postgres.url_of('test', '+psycopg')}"
        return f"db+sqlite:///{self._folder / 'results.db'}"


@pytest.fixture(scope="module")
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(request, tmp_path_factory.mktemp("results"))


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """URL of a server that accepts connections and never answers."""
    with socket.create_server((HOST, 0)) as server:
        yield f"redis://user:secret@{HOST}:{server.getsockname()[1]}/0"


@pytest.fixture
async def backend(app: Celery) -> AsyncIterator[Backend]:
    async with backend_from_app(app) as backend:
        yield backend
