"""One task by its id: what is stored under it, read once and without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioresult.default import Result, ResultBackend, check_backend, get_default
from aioresult.record import Record, ResultTree, check_task_id
from aioresult.revoking import refuse_what_workers_do, revocation
from aioresult.states import READY_STATES

_CELERYS_NAMES: Final = {"info": "result"}
"""Attributes of Celery's results whose names differ from the record's."""


class StoredTask:
    """The methods of ``AsyncResult`` that need a single call to the store.

    Once the task is known to be final, its record is kept here and the store is not asked again.
    """

    __slots__ = ("__weakref__", "_backend", "_record", "id", "parent")

    def __init__(self, task_id: str, backend: ResultBackend | None, parent: Result | None) -> None:
        self.id = check_task_id(task_id)
        self.parent = parent
        self._backend = backend if backend is None else check_backend(backend)
        self._record: Record | None = None

    if not TYPE_CHECKING:  # a type checker says by itself that there is no such attribute

        def __getattr__(self, name: str) -> object:
            """Refuse an attribute that is not there; if Celery's results have it, say what to await instead."""
            of_record = _CELERYS_NAMES.get(name, name)
            missing = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not hasattr(Record, of_record):
                raise AttributeError(missing)
            raise AttributeError(f"{missing}: write (await result.fetch()).{of_record}")

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def backend(self) -> ResultBackend:
        """The backend given, or the configured one."""
        if self._backend is None:
            self._backend = get_default()
        return self._backend

    @property
    def final(self) -> Record | None:
        """The final record, if it has been seen; does not ask the store."""
        return self._record

    def _keep(self, record: Record) -> Record:
        """Remember ``record`` if it is final, and return it.

        Raises:
            DecodeError: it is the stand-in for a record that cannot be read.
        """
        if record.status in READY_STATES:
            self._record = record
        elif (error := record.error) is not None:
            raise error
        return record

    # --- querying ---

    async def fetch(self) -> Record:
        """Return the record as it is now; ``PENDING`` where nothing is stored.

        Raises:
            DecodeError: what is stored cannot be read.
        """
        return self._record or self._keep(await self.backend.fetch(self.id))

    async def status(self) -> str:
        """Return the state's name."""
        return (await self.fetch()).status

    async def ready(self) -> bool:
        """Return whether the task is final."""
        return (await self.fetch()).ready

    async def successful(self) -> bool:
        """Return whether the task has succeeded."""
        return (await self.fetch()).successful

    async def failed(self) -> bool:
        """Return whether the task has failed; a revoked one has not."""
        return (await self.fetch()).failed

    async def children(self) -> list[Result] | None:
        """Return the results of the tasks that this one started; ``None`` where that was not recorded."""
        trees = (await self.fetch()).children
        return None if trees is None else [self.backend._result_from_tree(tree) for tree in trees]

    # --- changing ---

    async def revoke(self, reason: str | None = None, *, terminate: bool = False, signal: str | None = None) -> bool:
        """Revoke the task: store REVOKED, unless it is final.

        Callers that wait for it get ``TaskRevokedError`` with ``reason`` at once, and its stream ends. A ``TaskRunner``
        in any process that runs it, or is about to, stops it. A Celery worker does not read what is stored: see
        ``aioresult.integrations.celery.revoke``.

        Args:
            reason: the text of the ``TaskRevokedError``.
            terminate: Celery's option; refused, and the error says what to use instead.
            signal: the same.

        Returns:
            Whether this call revoked the task; false if it was final already.

        Raises:
            StoreUnavailable: the store cannot be reached.
            Unsupported: ``terminate`` or ``signal`` was given.
        """
        refuse_what_workers_do(f"task {self.id!r}", terminate, signal)
        if self._record is not None:
            return False
        backend = self.backend
        return await backend._put_record(revocation(self.id, reason, backend._runtime.store))

    async def forget(self) -> bool:
        """Delete the result from the store, and the record that is kept here."""
        self._record = None
        return await self.backend.forget(self.id)

    def as_tuple(self) -> ResultTree:
        """Return the id and those of its ancestors, in Celery's form."""
        return ((self.id, None if self.parent is None else self.parent.as_tuple()), None)

    def __json__(self) -> ResultTree:
        """Return the form in which a result is stored as a value, which is Celery's too."""
        return self.as_tuple()

    def __repr__(self) -> str:
        state = self._record.status if self._record is not None else "not seen final"
        return f"<{type(self).__name__} {self.id!r:.200} ({state})>"

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredTask):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented
