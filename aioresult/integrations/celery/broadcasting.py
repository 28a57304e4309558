"""Commands to all workers of an application, sent by Celery's own ``app.control`` with limited retries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Any, Final, TypeVar

from aioresult.integrations.celery import internals
from aioresult.integrations.celery.broker import Answers
from aioresult.integrations.celery.protocols import App, BrokerConnection, Control, Producer

T = TypeVar("T")

_PACE: Final = ("max_retries", "interval_start", "interval_step", "interval_max")


def broadcast(
    app: App,
    send: Callable[[Control, BrokerConnection], T],
    answers: Answers,
    given: BrokerConnection | None = None,
) -> T:
    """Call ``send`` with the application's control and a connection, the given one or one from its pool; this blocks.

    kombu's mailbox repeats a command until there is a broker, which blocks its thread, and never repeats its set-up for
    replies. Here both are repeated as often as publishing a task (``task_publish_retry_policy``).

    Args:
        app: the application.
        send: sends a command over the connection; it is called again if the connection is lost.
        answers: notes when the broker has taken the command.
        given: the caller's connection.

    Raises:
        PublishError: there is no connection to the broker.
    """
    pace = _pace(app)
    with _producer_over(given, app) as producer:
        connection = producer.connection
        connection.ensure_connection(**pace)
        control = copy(app.control)
        control.mailbox = control.mailbox(connection)
        control.mailbox._producer_pool = _Once(producer, answers)

        def attempt() -> T:
            return send(control, connection)

        result: T = connection.ensure(producer, attempt, **pace)()
        return result


def _producer_over(given: BrokerConnection | None, app: App) -> AbstractContextManager[Producer]:
    return app.producer_or_acquire() if given is None else nullcontext(internals.producer_over(given))


def _pace(app: App) -> dict[str, Any]:
    """Return how often, and after which pauses, sending is repeated."""
    if not app.conf.get("task_publish_retry", True):
        return {"max_retries": 0}
    policy = app.conf.get("task_publish_retry_policy", {})
    return {"max_retries": 3} | {name: policy[name] for name in _PACE if name in policy}


class _Once:
    """Replaces a mailbox's pool of producers, and the producer in it: publishes once, and notes that it did."""

    def __init__(self, producer: Producer, answers: Answers) -> None:
        self._producer = producer
        self._answers = answers

    @contextmanager
    def acquire(self) -> Iterator[_Once]:
        yield self

    def publish(self, body: object, **options: Any) -> None:
        self._producer.publish(body, **{**options, "retry": False})
        self._answers.note()
