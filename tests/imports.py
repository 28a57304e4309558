"""What Celery's workers and programs of the tests import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

from importlib import import_module

for name in """
    celery.apps.worker celery.backends.database celery.backends.mongodb celery.backends.redis celery.bin.celery
    celery.concurrency.prefork celery.concurrency.solo celery.concurrency.thread celery.worker.consumer
    kombu.transport.redis aiosqlite asyncmy asyncpg psycopg pydantic pymysql yaml
    aioresult.integrations.celery.plugin aioresult.stores.mongodb aioresult.stores.redis
    aioresult.stores.sqlalchemy.feeds.sqlite aioresult.stores.sqlalchemy.store
""".split():
    import_module(name)
