"""Results for blocking callers: the names of ``aioresult`` without ``await``, and Celery's attributes as properties.

Code written for ``celery.result.AsyncResult`` runs after changing the import::

    from aioresult.sync import AsyncResult, configure

    configure("redis://localhost:6379/0")
    result = AsyncResult(task_id)
    print(result.id, result.status)
    if result.ready():
        value = result.get() if result.successful() else result.get(propagate=False)

Constructors take Celery's arguments as well: ``AsyncResult(task_id, app=app)`` is the result in the result backend of
that application. Where Celery is loaded, the ``ResultTimeout`` of a blocking call is Celery's ``TimeoutError`` as well,
and likewise ``TaskRevokedError``. One name means something else: ``wait()`` returns the final record, while in Celery
it is a deprecated alias of ``get()``. ``docs/howto/celery.md`` has the whole list.

All blocking callers of a process share one event loop in a daemon thread (``portal.py``), with its connections and its
subscription, so a waiting thread costs only a task. A backend may be shared with asynchronous code, and ``configure``
configures both. In a thread that runs an event loop, blocking calls raise ``WouldBlockLoop``: use ``await`` there.
"""

from aioresult.sync.abortable import AbortableAsyncResult
from aioresult.sync.backend import Backend, configure, get_backend
from aioresult.sync.groups import GroupResult, ResultSet, result_from_tuple
from aioresult.sync.many import as_completed, gather, wait
from aioresult.sync.result import AsyncResult

__all__ = [
    "AbortableAsyncResult",
    "AsyncResult",
    "Backend",
    "GroupResult",
    "ResultSet",
    "as_completed",
    "configure",
    "gather",
    "get_backend",
    "result_from_tuple",
    "wait",
]
