"""The objects of Celery that are used here, as protocols: Celery itself carries no type information."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Conf(Protocol):
    """A Celery application's configuration."""

    result_backend: str | None

    def get(self, key: str, default: object = None, /) -> Any:
        """Return a setting by its new name, whichever name it was set by."""


class ResultNode(Protocol):
    """A result of Celery's: of one task or, with ``results``, of a group."""

    id: str
    parent: ResultNode | None

    def as_tuple(self) -> Any:
        """Return the ids of the result, its ancestors and its members."""


class BrokerConnection(Protocol):
    """A connection to a broker, which need not be open."""

    def ensure_connection(self, **pace: Any) -> object:
        """Open it, if it is not."""

    def ensure(self, user: Producer, fn: Callable[[], Any], **pace: Any) -> Callable[[], Any]:
        """Return ``fn`` so that it is called again if the connection is lost; ``user`` gets a new channel."""

    def as_uri(self, include_password: bool = False) -> str: ...


class Producer(Protocol):
    """Publishes over one connection."""

    connection: BrokerConnection

    def publish(self, body: object, **options: Any) -> object: ...


class ResultBackend(Protocol):
    """The part of the application's result backend that is needed here."""

    thread_safe: bool
    url: str
    on_task_call: Any
    add_pending_result: Any
    remove_pending_result: Any


class Control(Protocol):
    """Sends commands to an application's workers; returns their replies, where they are waited for."""

    mailbox: Any

    def revoke(self, task_id: str | list[str], /, **options: Any) -> list[dict[str, Any]] | None: ...

    def revoke_by_stamped_headers(
        self, headers: Mapping[str, str | list[str]], /, **options: Any
    ) -> list[dict[str, Any]] | None: ...

    def broadcast(self, command: str, arguments: dict[str, Any], /, **options: Any) -> list[dict[str, Any]] | None: ...


class RunningTask(Protocol):
    """A task that is running in this thread."""

    request: object
    request_stack: Any


class App(Protocol):
    """A Celery application."""

    main: str | None
    conf: Conf
    backend_cls: object
    current_task: RunningTask | None
    current_worker_task: RunningTask | None

    def set_current(self) -> None:
        """Make it this thread's current application."""

    @property
    def control(self) -> Control: ...

    @property
    def backend(self) -> ResultBackend:
        """The result backend; most kinds are made anew for each thread."""

    def connection_for_write(self) -> BrokerConnection:
        """Return a new connection for publishing; it is not opened."""

    def producer_or_acquire(self) -> AbstractContextManager[Producer]:
        """Return a producer of the pool, with a connection, for a ``with`` statement."""

    def send_task(self, name: str, args: Any, kwargs: Any, **options: Any) -> ResultNode: ...


class Applicable(Protocol):
    """A task or a signature."""

    app: App

    def apply_async(self, args: Any, kwargs: Any, **options: Any) -> ResultNode: ...


class Promise(Protocol):
    """Becomes ready together with a result, and then calls its listeners."""

    fun: Any
    ready: bool
    listeners: Sequence[object]

    def __call__(self, *args: object) -> object:
        """Make it ready."""


class PendingResult(Protocol):
    """A result of one task, as its backend sees it."""

    id: str
    parent: PendingResult | PendingSet | None
    on_ready: Promise
    _cache: dict[str, Any] | None

    def _set_cache(self, meta: dict[str, Any], /) -> object:
        """Remember the final state."""

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Return the value, or raise the exception."""


class PendingSet(Protocol):
    """A set or group of results, as its backend sees it."""

    id: str
    parent: PendingResult | PendingSet | None
    results: Sequence[PendingResult | PendingSet]
