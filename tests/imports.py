"""What Celery's workers and programs of the tests import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

from importlib import import_module

for name in """
    celery.app.control celery.app.events celery.app.log celery.apps.worker celery.backends.database
    celery.backends.mongodb celery.backends.redis celery.bin.celery celery.concurrency.prefork celery.concurrency.solo
    celery.concurrency.thread celery.contrib.abortable celery.events.receiver celery.fixups.django
    celery.worker.autoscale celery.worker.components celery.worker.consumer celery.worker.strategy
    kombu.pidbox kombu.transport.redis
    aiosqlite asyncmy asyncpg psycopg pydantic.main pydantic.types pymysql yaml
    aioresult.integrations.celery.chords aioresult.integrations.celery.plugin aioresult.runner
    aioresult.stores.memory aioresult.stores.mongodb aioresult.stores.redis aioresult.stores.sqlalchemy.store
    aioresult.stores.sqlalchemy.feeds.postgresql aioresult.stores.sqlalchemy.feeds.sqlite
    aioresult.stores.sqlalchemy.streams.mysql aioresult.stores.sqlalchemy.streams.postgresql
    aioresult.stores.sqlalchemy.streams.sqlite
""".split():
    import_module(name)
