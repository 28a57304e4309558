"""The functions and internals of Celery, kombu and vine that are used here, with types, which they lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import kombu.exceptions
import kombu.messaging
from celery import current_app
from celery.app import pop_current_task, push_current_task
from celery.exceptions import TimeoutError as _TimeoutError
from celery.local import Proxy as _Proxy
from celery.result import ResultSet as _ResultSet
from vine import barrier, promise

from aioresult.integrations.celery.protocols import App, BrokerConnection, PendingResult, PendingSet, Producer, Promise
from aioresult.sync.observing import OnInterval

if TYPE_CHECKING:
    from typing_extensions import TypeIs

T = TypeVar("T")

CeleryTimeout: Final = cast("type[Exception]", _TimeoutError)
"""Celery's ``get`` raises it. It is not a subclass of the builtin ``TimeoutError``."""
EncodeError: Final = cast("type[Exception]", kombu.exceptions.EncodeError)
"""Workers turn it into the failure of a task whose value cannot be stored."""
PublishError: Final = cast("type[Exception]", kombu.exceptions.OperationalError)
"""kombu raises it for all errors of a broker's driver."""


def is_set(node: PendingResult | PendingSet) -> TypeIs[PendingSet]:
    """Return whether ``node`` is a group or set, and not the result of one task."""
    return isinstance(node, _ResultSet)


def follows_parents(on_interval: OnInterval | None) -> bool:
    """Return whether ``on_interval`` is the promise that raises the failure of a result's parents."""
    return isinstance(on_interval, promise) and on_interval.fun is not None


def has_listeners(on_ready: Promise) -> bool:
    """Return whether there are callbacks for when a result is ready."""
    return any(listener is not None for listener in on_ready.listeners or ())


def only_groups_listen(on_ready: Promise) -> bool:
    """Return whether all callbacks of a result belong to groups of which it is a member."""
    return all(listener is None or isinstance(listener, barrier) for listener in tuple(on_ready.listeners or ()))


def recurring(on_interval: OnInterval | None) -> OnInterval | None:
    """Return what to call after each interval: a promise only once, and only if it has listeners.

    Celery's ``get`` turns the user's ``on_interval`` into such a promise, so Celery also calls it only once.
    """
    if not isinstance(on_interval, promise):
        return on_interval
    if not has_listeners(on_interval):
        return None
    return lambda: None if on_interval.ready else on_interval()


def current_backend() -> object:
    """Return the result backend of the current application."""
    return current_app.backend


def the_current_app() -> App:
    """Return the current application of this thread."""
    return unproxied(current_app)


def unproxied(app: App) -> App:
    """Return the application itself, even for a proxy such as ``celery.current_app`` or that of a ``shared_task``."""
    return cast("App", app._get_current_object()) if isinstance(app, _Proxy) else app


def producer_over(connection: BrokerConnection) -> Producer:
    """Return something that publishes over ``connection``."""
    make: Any = kombu.messaging.Producer
    return cast("Producer", make(connection, auto_declare=False))


def in_context(app: App, fn: Callable[[], T]) -> Callable[[], T]:
    """Return ``fn``, to be called in another thread in the Celery context of this one.

    Celery keeps two things for each thread: its current application, to which shared tasks and many signatures belong,
    and the running tasks, which become the parents of the tasks that they publish.
    """
    running = [task for task in (app.current_worker_task, app.current_task) if task is not None]
    stack = [(task, task.request) for task in dict.fromkeys(running)]

    def call() -> T:
        app.set_current()
        for task, request in stack:
            push_current_task(task)
            task.request_stack.push(request)
        try:
            return fn()
        finally:
            for task, _ in reversed(stack):
                task.request_stack.pop()
                pop_current_task()

    return call
