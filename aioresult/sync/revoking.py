"""Revoking, which goes through the broker, and therefore through a Celery application."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aioresult.errors import Unsupported
from aioresult.sync.portal import refuse_to_block_a_loop

if TYPE_CHECKING:
    from aioresult.integrations.celery.protocols import App, Control


class Revocable(ABC):
    """One task or several that can be revoked, provided that their application is known."""

    __slots__ = ()

    @property
    @abstractmethod
    def app(self) -> App | None:
        """The Celery application, or ``None`` where none was given."""

    @abstractmethod
    def _to_revoke(self) -> str | list[str]:
        """Return the task's id, or the ids of the tasks."""

    def revoke(
        self,
        connection: object = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Have all workers not run the task, by ``app.control.revoke``; arguments are Celery's.

        Args:
            connection: to the broker, of kombu.
            terminate: also end the process that executes it.
            signal: the signal for that.
            wait: wait for the workers' replies.
            timeout: seconds for that.

        Raises:
            Unsupported: no application is known.
        """
        self._control().revoke(
            self._to_revoke(), connection=connection, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )

    def _control(self) -> Control:
        refuse_to_block_a_loop()
        if self.app is None:
            ids = self._to_revoke()
            what, given = (f"task {ids!r}", repr(ids)) if isinstance(ids, str) else (f"{len(ids)} tasks", "ids")
            raise Unsupported(
                f"{what}: a result backend cannot revoke, since that goes through the broker; make the result with "
                f"app=app, or call app.control.revoke({given}) of the Celery app, or TaskRunner.cancel() for what a "
                f"runner runs"
            )
        return self.app.control


class RevocableTask(Revocable):
    """One task that can be revoked."""

    __slots__ = ()

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, str | list[str]],
        connection: object = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Have all workers not run tasks with these ``headers``; for the other arguments see ``revoke``."""
        self._control().revoke_by_stamped_headers(
            headers, connection=connection, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )
