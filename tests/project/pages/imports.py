"""What pages and their commands import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

import warnings
from importlib import import_module

with warnings.catch_warnings(action="error"):
    for name in """
        aiosqlite asyncmy asyncpg fastapi httpx pytest_asyncio sse_starlette taskiq
        celery.apps.worker celery.bin.celery celery.concurrency.prefork celery.concurrency.solo celery.worker.consumer
        kombu.transport.redis
        aioresult.integrations.asgi aioresult.integrations.celery.plugin aioresult.stores.memory
        aioresult.stores.mongodb aioresult.stores.redis aioresult.stores.sqlalchemy.feeds.sqlite
        aioresult.stores.sqlalchemy.store aioresult.testing
        tests.project.pages.running
    """.split():
        import_module(name)
    import_module("tests.cli.imports")
