"""What Celery's workers import sooner or later, for ``tests.preloaded``; the application is each worker's own."""

from __future__ import annotations

import celery.apps.worker
import celery.backends.database
import celery.backends.mongodb
import celery.backends.redis
import celery.bin.celery
import celery.concurrency.prefork
import celery.concurrency.solo
import celery.concurrency.thread
import celery.worker.consumer
import kombu.transport.redis
import psycopg
import pydantic
import yaml  # noqa: F401

import aioresult.integrations.celery.plugin
import aioresult.stores.mongodb
import aioresult.stores.redis
import aioresult.stores.sqlalchemy.store  # noqa: F401
