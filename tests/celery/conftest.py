"""The broker of all Celery tests: one Redis of their own, in which every test has keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import RedisServer


@pytest.fixture(scope="session")
def celery_redis() -> Iterator[RedisServer]:
    """A Redis for the broker (database 1) and for results (database 0)."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def broker(celery_redis: RedisServer, keyprefix: str) -> dict[str, Any]:
    """Settings of a broker that nobody else uses."""
    return broker_settings(celery_redis, keyprefix)


def broker_settings(server: RedisServer, prefix: str) -> dict[str, Any]:
    return {
        "broker": server.url.removesuffix("/0") + "/1",
        "broker_transport_options": {"global_keyprefix": prefix, "visibility_timeout": 3600},
    }
