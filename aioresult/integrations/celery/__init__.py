"""Celery: await the results of its workers, and serve as the result backend in which they store them.

    from aioresult.integrations.celery import apply_async

    result = await apply_async(add, (2, 3))       # published without blocking the loop, and watched from the start
    value = await result.get(timeout=10)

- ``backend_from_app(app)`` turns an application's configuration into an ``aioresult.Backend``.
- ``apply_async`` and ``send_task`` publish and return an ``aioresult.AsyncResult`` (or ``GroupResult``).
- ``revoke`` and ``revoke_by_stamped_headers`` tell the workers not to run tasks, or to end them.
- ``abort`` asks a task of ``celery.contrib.abortable`` to end.
- ``emit`` appends to the stream of the task that is running; ``AsyncResult.stream`` reads it.
- ``result_backend="aioresult+redis://..."`` makes Celery itself store and wait through aioresult; see ``plugin``.
"""

from aioresult.errors import missing_driver

try:
    from aioresult.integrations.celery.aborting import abort
    from aioresult.integrations.celery.configuration import backend_from_app
    from aioresult.integrations.celery.emitting import emit
    from aioresult.integrations.celery.errors import BrokerUnavailable
    from aioresult.integrations.celery.publishing import apply_async, send_task
    from aioresult.integrations.celery.revoking import revoke, revoke_by_stamped_headers
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] not in ("celery", "kombu"):
        raise
    raise missing_driver("celery", "this integration", "celery") from exc

__all__ = [
    "BrokerUnavailable",
    "abort",
    "apply_async",
    "backend_from_app",
    "emit",
    "revoke",
    "revoke_by_stamped_headers",
    "send_task",
]
