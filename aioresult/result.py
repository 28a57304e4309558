"""The result of one task: what users hold, await and ask."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from aioresult.codec.typed import convert
from aioresult.collecting import failed_ancestor, refuse_to_wait_in_vain
from aioresult.errors import DecodeError, RemoteTaskError
from aioresult.inbox import Inbox
from aioresult.record import Record, ResultTree, check_task_id
from aioresult.runtime import LOOK_ONCE, Runtime, deadline_after
from aioresult.states import PENDING, PROPAGATE_STATES, READY_STATES, SUCCESS

if TYPE_CHECKING:
    from aioresult.backend import Backend
    from aioresult.groups import Result

T = TypeVar("T")

_UNREAD_UPDATES = 1000
"""States that ``updates`` keeps for a reader that is slower than the task; older ones give way."""


class AsyncResult(Generic[T]):
    """The result of the task ``task_id``, which anything may be producing anywhere.

    Creating one does nothing: no connection, no lookup, no need for a running loop. Once the task is found final, its
    record is kept here and no further question goes to the store.

    Args:
        task_id: the task's id.
        backend: where the result is stored; by default the configured backend, resolved at first use.
        result_type: converts the value: a dataclass, a pydantic model, ``list[int]``, ...: see ``msgspec.convert``.
        parent: the result of the task or group that led to this one; its failure is raised by ``get``.
        ignored: whether the producer was told not to store the result; ``None`` means what the settings say.

    Raises:
        InvalidTaskId: the id is empty or not a string.
    """

    __slots__ = ("__weakref__", "_backend", "_record", "_type", "id", "ignored", "parent")

    @overload
    def __init__(
        self: AsyncResult[Any],
        task_id: str,
        backend: Backend | None = None,
        *,
        parent: Result | None = None,
        ignored: bool | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        task_id: str,
        backend: Backend | None = None,
        *,
        result_type: type[T] | None,
        parent: Result | None = None,
        ignored: bool | None = None,
    ) -> None: ...

    def __init__(
        self,
        task_id: str,
        backend: Backend | None = None,
        *,
        result_type: type[T] | None = None,
        parent: Result | None = None,
        ignored: bool | None = None,
    ) -> None:
        self.id = check_task_id(task_id)
        self.parent = parent
        self.ignored = ignored
        self._backend = backend
        self._type = result_type
        self._record: Record | None = None

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def backend(self) -> Backend:
        """The backend given, or the configured one."""
        if self._backend is None:
            from aioresult.backend import get_backend

            self._backend = get_backend()
        return self._backend

    @property
    def final(self) -> Record | None:
        """The final record, if it has been seen; asks nobody."""
        return self._record

    def keep(self, record: Record) -> Record:
        """Remember ``record`` if it is final, and return it.

        Raises:
            DecodeError: it stands for something that cannot be read.
        """
        if record.status in READY_STATES:
            self._record = record
        elif (error := record.error) is not None:
            raise error
        return record

    # --- waiting ---

    async def get(
        self, timeout: float | None = None, propagate: bool = True, *, forget: bool = False, follow_parents: bool = True
    ) -> T:
        """Wait for the task and return its value, or raise what it failed with.

        Args:
            timeout: seconds to wait; ``None`` waits for ever, 0 looks once.
            propagate: raise the task's exception; ``False`` returns it instead.
            forget: delete the result from the store once it is here.
            follow_parents: with a ``parent``, raise the failure of an ancestor as soon as it is known.

        Raises:
            ResultTimeout: the task was not final in time.
            TaskRevokedError: it was revoked.
            ResultNotStored: its result is ignored, so there is nothing to wait for.
            DecodeError: what is stored cannot be read.
            StoreUnavailable: the store could not be reached at all.
            Exception: what the task itself raised; a ``RemoteTaskError`` where that type is not registered here.
        """
        record = self._record
        if record is None:
            check_timeout(timeout)
            runtime, deadline = self.backend.runtime, deadline_after(timeout)
            if self.is_ignored:
                await refuse_to_wait_in_vain(runtime, [self], deadline)
            if self.parent is not None and propagate and follow_parents:
                await self._raise_failure_of_ancestor(deadline)
            record = self._record or self.keep(await runtime.final(self.id, timeout, deadline))
        if forget:
            self.value(record, propagate=False)  # what cannot be handed over is not deleted
            await self.forget()
        return self.value(record, propagate)

    async def wait(self, timeout: float | None = None) -> Record:
        """Wait for the task and return its final record, also that of a failed or revoked task.

        Raises:
            ResultTimeout: the task was not final in time.
            ResultNotStored: its result is ignored, so there is nothing to wait for.
            DecodeError: what is stored cannot be read.
        """
        if self._record is not None:
            return self._record
        check_timeout(timeout)
        runtime, deadline = self.backend.runtime, deadline_after(timeout)
        if self.is_ignored:
            await refuse_to_wait_in_vain(runtime, [self], deadline)
        return self.keep(await runtime.final(self.id, timeout, deadline))

    def __await__(self) -> Generator[Any, None, T]:
        return self.get().__await__()

    @property
    def is_ignored(self) -> bool:
        """Whether the producer is expected not to store the result."""
        return self.backend.settings.task_ignore_result if self.ignored is None else self.ignored

    async def _raise_failure_of_ancestor(self, deadline: float | None) -> None:
        failed = await failed_ancestor(self, deadline)
        if failed is not None and failed.final is not None:
            failed.value(failed.final)

    def value(self, record: Record, propagate: bool = True) -> T:
        """Return what ``get`` makes of a final record: its value, or its exception raised or returned."""
        if record.status == SUCCESS:
            return cast("T", record.result) if self._type is None else self._converted(record, self._type)
        if record.status not in PROPAGATE_STATES:
            raise record.error or ValueError(f"task {self.id!r} is not final: its state is {record.status}")
        error = record.result
        if not isinstance(error, BaseException):
            error = RemoteTaskError("Exception", None, [error], record.traceback)
        if propagate:
            raise error.with_traceback(None)  # the instance is shared by all who wait: begin its traceback here
        return cast("T", error)

    def _converted(self, record: Record, result_type: type[T]) -> T:
        try:
            return cast("T", convert(record.result, result_type))
        except ValueError as exc:
            raise DecodeError(f"task {self.id!r}: its value is no {result_type!r}: {exc}") from exc

    async def updates(self, timeout: float | None = None) -> AsyncGenerator[Record, None]:
        """Iterate the task's states as they change: first what is stored now, if anything, last the final one.

        Progress that is reported while nobody reads is kept, up to a thousand records.

        Raises:
            ResultTimeout: the task was not final ``timeout`` seconds after the first step.
            DecodeError: what is stored cannot be read.
        """
        check_timeout(timeout)
        if self._record is not None:
            yield self._record
            return
        runtime, deadline = self.backend.runtime, deadline_after(timeout)
        if deadline == LOOK_ONCE:
            record = await self.fetch()
            if record.status != PENDING:
                yield record
        else:
            record = Record(id=self.id)
            async with aclosing(self._states(runtime, deadline)) as states:
                async for record in states:
                    yield record
        if not record.ready:
            raise runtime.timeout_error(f"task {self.id!r}", timeout)

    async def _states(self, runtime: Runtime, deadline: float | None) -> AsyncGenerator[Record, None]:
        """Yield the states until the final one, or until ``deadline``."""
        inbox = Inbox(finals_only=False, limit=_UNREAD_UPDATES)
        runtime.hub.join((runtime.check(self.id),), inbox)
        last: tuple[Any, ...] | None = None
        try:
            while (record := await inbox.next(deadline)) is not None:
                self.keep(record)
                late = deadline is not None and runtime.loop.time() >= deadline
                if record.status == PENDING or (late and not record.ready):
                    continue  # when time is up, only a final state among the unread ones still counts
                if (seen := record.appearance()) != last:
                    last = seen
                    yield record
                if record.ready:
                    return
        finally:
            runtime.hub.leave((self.id,), inbox)

    # --- asking ---

    async def fetch(self) -> Record:
        """Return the record as it is now; ``PENDING`` where nothing is stored.

        Raises:
            DecodeError: what is stored cannot be read.
        """
        return self._record or self.keep(await self.backend.fetch(self.id))

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
        from aioresult.groups import from_tree

        trees = (await self.fetch()).children
        return None if trees is None else [from_tree(tree, self._backend) for tree in trees]

    async def forget(self) -> bool:
        """Delete the result from the store, and what is known of it here."""
        self._record = None
        return await self.backend.forget(self.id)

    def leaves(self) -> list[AsyncResult[Any]]:
        """Return the single results of which this consists: itself."""
        return [self]

    def as_tuple(self) -> ResultTree:
        """Return the id and those of its ancestors, in Celery's form."""
        return ((self.id, None if self.parent is None else self.parent.as_tuple()), None)

    def __json__(self) -> ResultTree:
        """Return what is stored where a result is a value: the form in which Celery stores it too."""
        return self.as_tuple()

    def __repr__(self) -> str:
        state = self._record.status if self._record is not None else "not seen final"
        return f"<{type(self).__name__} {self.id!r:.200} ({state})>"

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.id, self._type, self.parent, self.ignored)


def _restore(task_id: str, result_type: Any, parent: Result | None, ignored: bool | None) -> AsyncResult[Any]:
    """Rebuild a pickled result; its backend is the configured one of the process that it comes to."""
    return AsyncResult(task_id, result_type=result_type, parent=parent, ignored=ignored)


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no number of seconds.

    Raises:
        TypeError, ValueError: ``timeout`` is no number, or not a number.
    """
    if timeout is not None and math.isnan(timeout):
        raise ValueError("timeout is a number of seconds or None, not nan")
