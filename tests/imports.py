"""What Celery's workers and programs of the tests import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

from importlib import import_module

for name in """
    celery.app.control celery.app.events celery.app.log celery.apps.worker celery.backends.database
    celery.backends.mongodb celery.backends.redis celery.bin.celery celery.concurrency.prefork celery.concurrency.solo
    celery.concurrency.thread celery.contrib.abortable celery.events.receiver celery.fixups.django
    celery.worker.autoscale celery.worker.components celery.worker.consumer celery.worker.strategy
    kombu.pidbox kombu.transport.redis psycopg pydantic.main pydantic.types pymysql yaml
    aioresult.integrations.celery.chords aioresult.integrations.celery.plugin aioresult.runner tests.stores.imports
""".split():
    import_module(name)
