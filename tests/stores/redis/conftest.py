"""Fixtures for the tests of the Redis store: a client beside it, and stores that are closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio
from redis.asyncio import Redis

from aioresult.settings import make_settings
from aioresult.stores.redis import RedisStore

Make = Callable[..., RedisStore]


@pytest_asyncio.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """Give a client of redis-py to look into the server with."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest_asyncio.fixture
async def make(redis_url: str) -> AsyncIterator[Make]:
    """Give a function that makes a store from a URL, by default the running server's, and settings."""
    stores = []

    def make(url: str = redis_url, **settings: Any) -> RedisStore:
        stores.append(RedisStore(url, make_settings(settings)))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()
