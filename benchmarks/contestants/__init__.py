"""Contestants that run in this environment, by the names under which a child process makes them."""

from __future__ import annotations

import importlib
from typing import Any, Final

from benchmarks.contestants.base import Contestant

KINDS: Final = {
    "aioresult": "benchmarks.contestants.aioresult:AioResult",
    "redis-py": "benchmarks.contestants.redis_py:PooledRedis",
    "redis-py-xread": "benchmarks.contestants.redis_streams:StreamedRedis",
    "redis-py-publish": "benchmarks.contestants.redis_streams:PublishedRedis",
    "resumable-stream": "benchmarks.contestants.resumable:ResumableStream",
    "redis-streams-floor": "benchmarks.floor.streams:BareStreams",
    "redis-floor": "benchmarks.floor.redis:BareRedis",
    "postgresql-floor": "benchmarks.floor.postgresql:BarePostgres",
    "postgresql-plain": "benchmarks.floor.postgresql:PlainPostgres",
    "mongodb-floor": "benchmarks.floor.mongodb:BareMongo",
    "sqlite-floor": "benchmarks.floor.sqlite:BareSQLite",
}


def make(kind: str, url: str, options: dict[str, Any]) -> Contestant:
    """Return a contestant, not yet connected."""
    module, _, name = KINDS[kind].partition(":")
    contestant: Contestant = getattr(importlib.import_module(module), name)(url, options)
    return contestant
