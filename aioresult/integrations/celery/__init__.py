"""Celery: await the results of its workers, and be the result backend in which they store them.

    from aioresult.integrations.celery import apply_async

    result = await apply_async(add, (2, 3))       # published without blocking the loop, and watched from the start
    value = await result.get(timeout=10)

- ``backend_from_app(app)`` turns an application's configuration into an ``aioresult.Backend``.
- ``apply_async`` and ``send_task`` publish and return an ``aioresult.AsyncResult`` (or ``GroupResult``).
- ``emit`` appends to the stream of the task that is running; ``AsyncResult.stream`` reads it.
- ``result_backend="aioresult+redis://..."`` makes Celery itself store and wait through aioresult; see ``plugin``.
"""

from aioresult.integrations.celery.configuration import backend_from_app
from aioresult.integrations.celery.emitting import emit
from aioresult.integrations.celery.errors import BrokerUnavailable
from aioresult.integrations.celery.publishing import apply_async, send_task

__all__ = ["BrokerUnavailable", "apply_async", "backend_from_app", "emit", "send_task"]
