"""The edge to Celery and kombu, which carry no type information: what is used of them, with types.

The rest of this package imports them from here, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, cast

import kombu.exceptions
from celery.canvas import Signature as _Signature
from celery.canvas import group as _group
from celery.local import Proxy as _Proxy
from celery.result import EagerResult as _EagerResult
from celery.result import ResultSet as _ResultSet


class Conf(Protocol):
    """A Celery application's configuration."""

    accept_content: Sequence[str]
    result_backend: str | None

    def get(self, key: str, default: object = None, /) -> Any:
        """Return a setting by its new name, whichever name it was set by."""

    def value_set_for(self, key: str, /) -> bool:
        """Return whether a setting was set, and is not the default."""


class ResultNode(Protocol):
    """A result of Celery's: of one task or, with ``results``, of a group."""

    id: str
    parent: ResultNode | None


class BrokerConnection(Protocol):
    """A connection to a broker, which need not be open."""

    def as_uri(self, include_password: bool = False) -> str:
        """Return where it leads."""


class ResultBackend(Protocol):
    """What publishing needs of the application's result backend."""

    thread_safe: bool
    on_task_call: Any
    add_pending_result: Any
    remove_pending_result: Any


class App(Protocol):
    """A Celery application."""

    main: str | None
    conf: Conf
    backend_cls: object

    @property
    def backend(self) -> ResultBackend:
        """The result backend; most kinds are made anew for each thread."""

    def connection_for_write(self) -> BrokerConnection:
        """Return a new connection for publishing; it is not opened."""

    def send_task(self, name: str, args: Any, kwargs: Any, **options: Any) -> ResultNode:
        """Publish a task by name."""


class Applicable(Protocol):
    """A task or a signature: what can be published."""

    app: App

    def apply_async(self, args: Any, kwargs: Any, **options: Any) -> ResultNode:
        """Publish it."""


PublishError: Final = cast("type[Exception]", kombu.exceptions.OperationalError)
"""What kombu makes of all errors of a broker's driver."""


def name_of(task: Applicable) -> str:
    """Return the name under which workers know a task, or the kind of a canvas."""
    name = task.get("task") if isinstance(task, _Signature) else getattr(task, "name", None)
    return str(name or type(task).__name__)


def own_options(task: Applicable) -> Mapping[str, Any]:
    """Return the options that a signature brings along."""
    return cast("Mapping[str, Any]", task.options) if isinstance(task, _Signature) else {}


def unproxied(app: App) -> App:
    """Return the application itself, also where ``celery.current_app`` or a ``shared_task``'s stands for it."""
    return cast("App", app._get_current_object()) if isinstance(app, _Proxy) else app


def is_group(task: Applicable) -> bool:
    """Return whether ``task`` is a group, whose id is not that of a task."""
    return isinstance(task, _group)


def is_ignored(node: ResultNode) -> bool | None:
    """Return whether a task was published with the wish to store no result; ``None`` where only the settings tell."""
    ignored: bool | None = getattr(node, "ignored", None)
    return ignored


def ignores_result(task: Applicable) -> bool | None:
    """Return whether a task was declared to store no result; ``None`` where only the settings tell."""
    ignored: bool | None = getattr(task, "ignore_result", None)
    return ignored


def members(node: ResultNode) -> Sequence[ResultNode] | None:
    """Return the members of a group's result; ``None`` for that of a single task."""
    return cast("Sequence[ResultNode]", node.results) if isinstance(node, _ResultSet) else None


class Eager(Protocol):
    """The result of a task that was run instead of published (``task_always_eager``)."""

    id: str
    state: str
    result: object
    traceback: object


def eager(node: ResultNode) -> Eager | None:
    """Return the result of a task that was run at once; ``None`` for that of a published one."""
    return cast("Eager", node) if isinstance(node, _EagerResult) else None
