"""Revoking tasks from an event loop: Celery's ``revoke`` and ``revoke_by_stamped_headers``, awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

from aioresult.errors import AioResultError
from aioresult.integrations.celery import internals
from aioresult.integrations.celery.broadcasting import broadcast
from aioresult.integrations.celery.broker import PUBLISH_TIMEOUT, Answers, hand_over, hand_over_and_wait
from aioresult.integrations.celery.protocols import App, BrokerConnection, Control
from aioresult.record import check_task_id
from aioresult.runtime import check_timeout

Replies = list[dict[str, Any]]
"""For each worker that has replied, its name and its reply: ``{"celery@host": {"ok": "..."}}``."""


class Identified(Protocol):
    """A result of aioresult, of ``aioresult.sync`` or of Celery; of one task, or of a group."""

    @property
    def id(self) -> str:
        """The id of the task or group."""


_REPLY_TIMEOUT: Final = 1.0
"""Seconds to wait for replies by default, as in ``app.control``."""

Command = Callable[..., Replies | None]
"""Sends a command by the control that it is called with; keyword arguments are options of Celery's ``broadcast``."""
Revocable = str | UUID | Identified | Iterable[str | UUID | Identified]


async def revoke(
    task_id: Revocable,
    destination: Sequence[str] | None = None,
    terminate: bool = False,
    signal: str | int | None = None,
    *,
    reply: bool = False,
    timeout: float = _REPLY_TIMEOUT,
    limit: int | None = None,
    app: App | None = None,
    publish_timeout: float | None = PUBLISH_TIMEOUT,
) -> Replies | None:
    """Tell all workers not to run tasks, as ``app.control.revoke`` does, without blocking the event loop.

    A waiter of a task that has not begun gets ``TaskRevokedError`` as soon as a worker has stored REVOKED: at once or,
    with Celery before 5.6, when the task's turn comes. A task that is running ends only with ``terminate``.

    Args:
        task_id: an id, a result, a group, or several of these.
        destination: names of the workers; by default all.
        terminate: also end a task that is running, where the worker's pool can: prefork ends the process, gevent and
            eventlet the greenlet (gevent from Celery 5.5 on). Threads cannot be ended: the task runs to its end, and
            the worker's reply has an ``"error"``. A solo worker receives the command only when its task has ended.
        signal: for that process: ``"SIGTERM"``, which is the default, ``"SIGKILL"``, ...
        reply: wait for the workers' replies. Without replies it is not known whether a worker received the command.
        timeout: seconds without a reply after which no more are expected.
        limit: how many replies are expected, if known; by default the number of names in ``destination``.
        app: the Celery application; by default that of the results, if it is known, or else the current one.
        publish_timeout: seconds that the broker may take; ``None`` for as long as Celery itself tries.

    Returns:
        The replies, perhaps none; ``None`` without ``reply``.

    Raises:
        BrokerUnavailable: the broker did not accept the command within ``publish_timeout``.
    """
    nodes = list(_nodes(task_id))
    ids = [check_task_id(getattr(node, "id", node)) for node in nodes]
    what = f"revoking task {ids[0]!r}" if len(ids) == 1 else f"revoking {len(ids)} tasks"
    command = by_ids(ids, terminate, signal)
    return await _tell(app or _app_of(nodes), what, command, publish_timeout, destination, reply, timeout, limit)


async def revoke_by_stamped_headers(
    headers: Mapping[str, str | Sequence[str]],
    destination: Sequence[str] | None = None,
    terminate: bool = False,
    signal: str | int | None = None,
    *,
    reply: bool = False,
    timeout: float = _REPLY_TIMEOUT,
    limit: int | None = None,
    app: App | None = None,
    publish_timeout: float | None = PUBLISH_TIMEOUT,
) -> Replies | None:
    """Tell all workers not to run tasks with these stamps, as ``app.control.revoke_by_stamped_headers`` does.

    A task that has not begun is stored as REVOKED when its turn comes. ``revoke`` describes the arguments in more
    detail.

    Args:
        headers: names of stamps, each with the value or values to match.
        destination: names of the workers; by default all.
        terminate: also end tasks that are running.
        signal: for the process.
        reply: wait for the workers' replies.
        timeout: seconds without a reply after which no more are expected.
        limit: how many replies are expected.
        app: the Celery application; by default the current one.
        publish_timeout: seconds that the broker may take.
    """
    command = by_stamped_headers(headers, terminate, signal)
    app, what = app or internals.the_current_app(), "revoking tasks by their stamped headers"
    return await _tell(app, what, command, publish_timeout, destination, reply, timeout, limit)


def by_ids(ids: str | list[str], terminate: bool, signal: str | int | None) -> Command:
    """Return what sends the same as ``app.control.revoke``."""
    return lambda control, **options: control.revoke(ids, terminate=terminate, signal=signal, **options)


def by_stamped_headers(
    headers: Mapping[str, str | Sequence[str]], terminate: bool, signal: str | int | None
) -> Command:
    """Return what sends the same as Celery's method of that name, which fails when a reply contains an error."""
    stamps = {name: value if isinstance(value, str) else list(value) for name, value in headers.items()}
    arguments = {"headers": stamps, "terminate": terminate, "signal": signal}
    return lambda control, **options: control.broadcast("revoke_by_stamped_headers", arguments, **options)


async def _tell(
    app: App,
    what: str,
    command: Command,
    publish_timeout: float | None,
    destination: Sequence[str] | None,
    reply: bool,
    timeout: float,
    limit: int | None,
) -> Replies | None:
    """Send the workers a command by ``command``, with options of Celery's control, and return their replies."""
    if isinstance(destination, str):
        raise TypeError(f"destination= takes the names of workers in a list, not {destination!r}")
    check_timeout(timeout)
    check_timeout(publish_timeout)
    app = internals.unproxied(app)
    names = None if destination is None else list(destination)
    answers = Answers(timeout)
    options = {"destination": names, "reply": reply, "timeout": timeout, "limit": limit, "callback": answers.note}

    def send(control: Control, connection: BrokerConnection) -> Replies | None:
        return command(control, connection=connection, **options)

    awaited = answers if reply else None
    return await hand_over(app, what, lambda: broadcast(app, send, answers), publish_timeout, awaited)


def tell_and_wait(
    app: App, what: str, command: Command, connection: BrokerConnection | None, *, reply: bool, timeout: float | None
) -> Replies | None:
    """Send the workers a command, for a blocking caller, and return their replies, perhaps none.

    Args:
        app: the application.
        what: what is done; errors begin with it.
        command: sends it.
        connection: the caller's connection to the broker; by default one of the application's pool.
        reply: wait for replies.
        timeout: seconds without a reply after which no more are expected. For ``None``, Celery's results would wait
            for replies for ever; this takes the default of ``app.control``.

    Raises:
        BrokerUnavailable: the broker did not accept the command in time.
    """
    if reply and timeout is None:
        timeout = _REPLY_TIMEOUT
    check_timeout(timeout)
    app = internals.unproxied(app)
    answers = Answers(timeout or 0.0)

    def send(control: Control, connected: BrokerConnection) -> Replies | None:
        return command(control, connection=connected, reply=reply, timeout=timeout, callback=answers.note)

    call = partial(broadcast, app, send, answers, connection)
    return hand_over_and_wait(app, what, call, PUBLISH_TIMEOUT, answers if reply else None)


def _nodes(given: object) -> Iterator[object]:
    """Yield the ids and the single results in a caller's argument."""
    if isinstance(given, (str, UUID)):
        yield given
    elif (leaves := getattr(given, "leaves", None)) is not None:
        yield from leaves()
    elif isinstance(given, Iterable):
        for one in given:
            yield from _nodes(one)
    else:
        yield given


def _app_of(nodes: Sequence[object]) -> App:
    """Return the application of the results, or the current one if they do not know theirs.

    Raises:
        AioResultError: they belong to several applications.
    """
    apps = {id(app): app for node in nodes if (app := getattr(node, "app", None)) is not None}
    if len(apps) > 1:
        raise AioResultError(
            "results of different Celery applications cannot be revoked in one call; make one call for each application"
        )
    return next(iter(apps.values()), None) or internals.the_current_app()
