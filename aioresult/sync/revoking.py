"""Revoking: by storing REVOKED or, for results of a Celery application, through the broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from aioresult.errors import Unsupported
from aioresult.revoking import refuse_what_workers_do
from aioresult.sync.mirrors import mirror
from aioresult.sync.portal import refuse_to_block_a_loop, run
from aioresult.sync.storing import StoringBackend

if TYPE_CHECKING:
    from aioresult.integrations.celery.protocols import App


class Revocable(ABC):
    """One task or several: where their results are stored, and how they are revoked."""

    __slots__ = ()

    @property
    @abstractmethod
    def app(self) -> App | None:
        """The Celery application, or ``None`` if none was given."""

    @property
    @abstractmethod
    def mirrored(self) -> Any:
        """The asynchronous result or results that this mirrors."""

    @property
    def backend(self) -> StoringBackend:
        """The given backend, or the application's, or that of a set's members, or the configured one."""
        backend: StoringBackend = mirror(self.mirrored.backend)
        return backend

    @abstractmethod
    def _to_revoke(self) -> str | list[str]:
        """Return the task's id, or the ids of the tasks."""

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
        *,
        reason: str | None = None,
    ) -> Any:
        """Revoke the tasks that are not final.

        If a Celery application is known, all its workers are told not to run them, as by ``app.control.revoke``, which
        may wait for the broker for ever. Otherwise REVOKED is stored, see ``aioresult.AsyncResult.revoke``; Celery's
        arguments are then refused.

        Args:
            connection: kombu's connection to the broker; by default one of the application's pool. A text is the
                ``reason``, the first argument in asynchronous code.
            terminate: also end the process that executes it.
            signal: the signal for that.
            wait: wait for the workers' replies.
            timeout: seconds without a reply after which no more are expected, by default 1.
            reason: the text of the ``TaskRevokedError`` that waiters get.

        Returns:
            Whether this call revoked the task, or how many of several tasks; ``None`` if workers were told, since they
            do not answer.

        Raises:
            Unsupported: an argument has no meaning here; the message says what to use instead.
            BrokerUnavailable: the broker did not accept the command within 5 seconds, or fell silent.
        """
        if isinstance(connection, str):
            connection, reason = None, connection
        refuse_to_block_a_loop()
        if self.app is None:
            self._refuse_the_brokers(connection, terminate, signal, wait, timeout)
            return run(self.mirrored.revoke, reason)
        if reason is not None:
            raise Unsupported(
                f"{self._named()}: Celery's workers are told no reason; leave it out, or make the result without app="
            )
        from aioresult.integrations.celery.revoking import by_ids, tell_and_wait

        command = by_ids(self._to_revoke(), terminate, signal)
        return tell_and_wait(self.app, f"revoking {self._named()}", command, connection, reply=wait, timeout=timeout)

    def _refuse_the_brokers(
        self, connection: object, terminate: bool, signal: str | None, wait: bool, timeout: float | None
    ) -> None:
        refuse_what_workers_do(self._named(), terminate, signal)
        if connection is not None or wait or timeout is not None:
            raise Unsupported(
                f"{self._named()}: connection=, wait= and timeout= are for a broker; make the result with app=app, or "
                f"use aioresult.integrations.celery.revoke"
            )

    def _named(self) -> str:
        ids = self._to_revoke()
        return f"task {ids!r}" if isinstance(ids, str) else f"{len(ids)} tasks"

    def __repr__(self) -> str:
        return f"<sync {repr(self.mirrored)[1:]}"
