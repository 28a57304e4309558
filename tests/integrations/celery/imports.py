"""What Celery's workers import sooner or later, for ``tests.preloaded``; the application is each worker's own."""

from __future__ import annotations

from importlib import import_module

for name in """
    celery.apps.worker celery.backends.database celery.backends.mongodb celery.backends.redis celery.bin.celery
    celery.concurrency.prefork celery.concurrency.solo celery.concurrency.thread celery.worker.consumer
    kombu.transport.redis psycopg pydantic yaml
    aioresult.integrations.celery.plugin aioresult.stores.mongodb aioresult.stores.redis
    aiosqlite aioresult.stores.sqlalchemy.feeds.sqlite aioresult.stores.sqlalchemy.store
""".split():
    import_module(name)
