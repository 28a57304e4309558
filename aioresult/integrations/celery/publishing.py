"""Publishing tasks from an event loop: ``apply_async`` and ``send_task``, awaited."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, cast

from aioresult.backend import Backend
from aioresult.default import Result, ancestors_of, check_backend
from aioresult.integrations.celery import internals
from aioresult.integrations.celery.backends import backend_of
from aioresult.integrations.celery.broker import PUBLISH_TIMEOUT, hand_over
from aioresult.integrations.celery.canvases import Canvas
from aioresult.integrations.celery.protocols import App, Applicable, ResultNode
from aioresult.integrations.celery.results import Results
from aioresult.integrations.celery.watching import Watch
from aioresult.result import AsyncResult
from aioresult.runtime import check_timeout


async def apply_async(
    task: Applicable,
    args: Any = None,
    kwargs: Any = None,
    *,
    timeout: float | None = PUBLISH_TIMEOUT,
    backend: Backend | None = None,
    **options: Any,
) -> Result:
    """Publish a task or signature as its own ``apply_async`` does, without blocking the event loop.

    Args:
        task: a task, or a signature of any kind: ``add.s(2, 3)``, ``chain``, ``group``, ``chord``, ...
        args: positional arguments, a tuple or list.
        kwargs: keyword arguments, a dict.
        timeout: seconds that the broker may take; ``None`` for as long as Celery itself tries.
        backend: where the result is awaited; by default what ``backend_from_app`` makes of the task's application, one
            backend for all calls.
        options: Celery's: ``countdown``, ``queue``, ``task_id``, ``link``, ...

    Returns:
        The task's ``AsyncResult``, for a chain or chord with its parents; the ``GroupResult`` of a group. It is watched
        already: a final state that arrives before it is awaited is kept. Dropping it ends the watching. If the
        application has no result backend, or one that cannot be read here, the task is published nevertheless, and
        ``get()`` raises ``ResultNotStored``. An empty chain publishes nothing and gives ``None``, as in Celery.

    Raises:
        BrokerUnavailable: the broker did not accept the task within ``timeout``.
        SettingsError, MissingDriver: only a mistake in the configuration prevents reading the result.
    """
    _check_task(task)
    _check_args(args)
    canvas = Canvas(task, options)
    publishing = _Publishing(task.app, canvas.name, timeout, backend, ignored=canvas.ignored)
    prepared: AsyncResult[Any] | None = None
    if not canvas.is_group:
        options["task_id"] = canvas.options.get("task_id") or str(uuid.uuid4())
        prepared = publishing.results.single(options["task_id"], canvas.ignored)
    return await publishing.run(lambda: task.apply_async(args, kwargs, **options), prepared, canvas)


async def send_task(
    app: App,
    name: str,
    args: Any = None,
    kwargs: Any = None,
    *,
    timeout: float | None = PUBLISH_TIMEOUT,
    backend: Backend | None = None,
    **options: Any,
) -> AsyncResult[Any]:
    """Publish a task by its name as ``app.send_task`` does; see ``apply_async`` for the rest."""
    _check_args(args)
    task_id = options.setdefault("task_id", str(uuid.uuid4()))
    ignored: bool | None = options.get("ignore_result")
    publishing = _Publishing(app, name, timeout, backend, ignored=ignored)
    prepared = publishing.results.single(task_id, ignored)
    return cast(
        "AsyncResult[Any]", await publishing.run(lambda: app.send_task(name, args, kwargs, **options), prepared)
    )


def _check_task(task: object) -> None:
    """Refuse what is no task and no signature, such as a task's name, or what ``delay()`` returns."""
    if isinstance(task, str):
        raise TypeError(f"apply_async takes the task itself; for a name, write send_task(app, {task!r}, args)")
    if not hasattr(task, "apply_async"):
        raise TypeError(
            f"apply_async takes a task or a signature, not {type(task).__name__}: write apply_async(task, args) "
            f"in place of apply_async(task.delay(*args))"
        )


def _check_args(args: object) -> None:
    """Refuse text as the arguments: each of its characters would become one."""
    if isinstance(args, str | bytes):
        raise TypeError(f"args is a tuple or a list of arguments, not {type(args).__name__}: write ({args!r:.60},)")


class _Publishing:
    """One call of ``apply_async`` or ``send_task``."""

    def __init__(
        self, app: App, what: str, timeout: float | None, backend: Backend | None, *, ignored: bool | None
    ) -> None:
        check_timeout(timeout)
        self._app = internals.unproxied(app)
        self._what = f"task {what!r}"
        self._timeout = None if self._app.conf.get("task_always_eager") else timeout
        self.results = Results(check_backend(backend) or backend_of(self._app, ignored=ignored))

    async def run(
        self, publish: Callable[[], ResultNode], prepared: AsyncResult[Any] | None, canvas: Canvas | None = None
    ) -> Result:
        """Publish, and return the results, all of them watched; ``prepared`` is watched before publishing."""
        watch = Watch(self.results.backend._runtime)
        if prepared is not None and not prepared.ignored:
            watch.add([prepared])
        try:
            node: ResultNode | None = await hand_over(
                self._app, self._what, lambda: _without_subscribing(self._app, publish), self._timeout
            )
        except BaseException:
            watch.close()
            raise
        if node is None:
            watch.close()
            return cast("Result", None)  # not in the return type: all other callers would have to exclude it
        result = self.results.of(node, prepared, canvas)
        singles = (*result.leaves(), *ancestors_of(result))
        watch.add(single for single in singles if single is not prepared and not single.ignored)
        return result


def _without_subscribing(app: App, publish: Callable[[], ResultNode]) -> ResultNode:
    """Publish, but prevent Celery's result backend from subscribing to the result, because it is awaited here.

    Most result backends are made anew for each thread. This one belongs to the publisher's thread alone, and can be
    changed. A backend that all threads share is not changed: it stays subscribed until Celery's result is dropped.
    """
    backend = app.backend
    if not backend.thread_safe:
        backend.on_task_call = lambda *_: {}
        backend.add_pending_result = backend.remove_pending_result = lambda result, **_: result
    return publish()
