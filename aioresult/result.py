"""The result of one task, to be awaited and queried."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import aclosing
from operator import index
from typing import Any, Final, Generic, TypeVar, cast, overload

from aioresult.default import Result, ResultBackend, ancestors_of, common_runtime
from aioresult.reading import Reader
from aioresult.record import Record
from aioresult.runtime import check_timeout, deadline_after
from aioresult.states import PROPAGATE_STATES
from aioresult.stored import StoredTask
from aioresult.stream import Item
from aioresult.values import item_as, value_of
from aioresult.waiting import refuse_ignored, states, success_or_failed_ancestor

T = TypeVar("T")
_HIGHEST: Final = 10**15
"""No stream has so many items, and every store can compare numbers up to here."""


class AsyncResult(StoredTask, Generic[T]):
    """The result of the task ``task_id``, whatever program runs it.

    Creating one does nothing: no connection, no lookup, no need for a running loop. Once the task is known to be final,
    its record is kept here and the store is not asked again.

    Args:
        task_id: the task's id.
        backend: where the result is stored; by default the configured backend, resolved at first use.
        result_type: converts the value: a dataclass, a pydantic model, ``list[int]``, ...: see ``msgspec.convert``.
        parent: the result of the task or group that led to this one; its failure is raised by ``get``.
        ignored: whether the producer was told not to store the result; ``None`` follows the settings.

    Raises:
        InvalidTaskId: the id is empty or not a string.
    """

    __slots__ = ("_type", "ignored")

    @overload
    def __init__(
        self: AsyncResult[Any],
        task_id: str,
        backend: ResultBackend | None = None,
        *,
        parent: Result | None = None,
        ignored: bool | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        task_id: str,
        backend: ResultBackend | None = None,
        *,
        result_type: type[T] | None,
        parent: Result | None = None,
        ignored: bool | None = None,
    ) -> None: ...
    def __init__(
        self,
        task_id: str,
        backend: ResultBackend | None = None,
        *,
        result_type: type[T] | None = None,
        parent: Result | None = None,
        ignored: bool | None = None,
    ) -> None:
        super().__init__(task_id, backend, parent)
        self.ignored = ignored
        self._type = result_type

    # --- waiting ---

    async def get(
        self, timeout: float | None = None, propagate: bool = True, *, forget: bool = False, follow_parents: bool = True
    ) -> T:
        """Wait for the task and return its value, or raise what it failed with.

        Args:
            timeout: seconds to wait; ``None`` waits for ever, 0 looks once.
            propagate: raise the task's exception; ``False`` returns it instead.
            forget: delete the result from the store once it was received.
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
            runtime, deadline = self.backend._runtime, deadline_after(timeout)
            if self._is_ignored:
                await refuse_ignored(runtime, [self.id], deadline)
            if self.parent is not None and propagate and follow_parents:
                await self._raise_failure_of_ancestor(deadline)
            record = self._record or self._keep(await runtime.final(self.id, timeout, deadline))
        if forget:
            self._value(record, propagate=False)  # a value that cannot be returned is not deleted
            await self.forget()
        return self._value(record, propagate)

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
        runtime, deadline = self.backend._runtime, deadline_after(timeout)
        if self._is_ignored:
            await refuse_ignored(runtime, [self.id], deadline)
        return self._keep(await runtime.final(self.id, timeout, deadline))

    def __await__(self) -> Generator[Any, None, T]:
        return self.get().__await__()

    @property
    def _is_ignored(self) -> bool:
        """Whether the producer is expected not to store the result."""
        return self.backend.settings.task_ignore_result if self.ignored is None else self.ignored

    async def _raise_failure_of_ancestor(self, deadline: float | None) -> None:
        """Wait for this task, and raise the failure of an ancestor as soon as one is known."""
        ancestors = {ancestor.id: ancestor for ancestor in ancestors_of(self)}
        runtime = common_runtime([*(ancestor for ancestor in ancestors.values() if ancestor.final is None), self])
        known = {task_id: ancestor.final for task_id, ancestor in ancestors.items()}
        record = await success_or_failed_ancestor(runtime, self.id, known, deadline)
        if record is not None:
            result = ancestors.get(record.id, self)
            result._value(result._keep(record))

    def _value(self, record: Record, propagate: bool = True) -> T:
        """Return what ``get`` makes of a final record: its value, or its exception raised or returned."""
        return cast("T", value_of(record, self._type, propagate))

    async def updates(self, timeout: float | None = None) -> AsyncGenerator[Record, None]:
        """Iterate the task's states as they change: first what is stored now, if anything, last the final one.

        Up to a thousand records are kept for a reader that is slower than the task.

        Raises:
            ResultTimeout: the task was not final ``timeout`` seconds after the first step.
            DecodeError: what is stored cannot be read.
        """
        check_timeout(timeout)
        if self._record is not None:
            yield self._record
            return
        runtime, deadline = self.backend._runtime, deadline_after(timeout)
        record = Record(id=self.id)
        async with aclosing(states(runtime, self.id, deadline)) as source:
            async for record in source:
                yield self._keep(record)
        if not record.ready:
            raise runtime.timeout_error([self.id], 1, timeout)

    async def stream(
        self,
        after: int = 0,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        result_type: type[Any] | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Iterate the task's stream: each item above ``after`` exactly once and in order, until the task is final.

        Any number of readers may begin before the task starts, while it runs, or after its end. Lost connections do no
        harm. A reader that was interrupted continues by passing the last number that it has seen.

        Args:
            after: the number of the last item that is known already; 0 begins with the first one.
            timeout: seconds to wait for the task; ``None`` waits for ever. What is stored by then is given, also to a
                caller that is slower; 0 gives what there is now.
            propagate: raise the task's exception at the end, if it failed; ``False`` ends without an error.
            result_type: converts the value of each item, as that of ``AsyncResult`` does.

        Raises:
            ResultTimeout: the task was not final in time; what was appended until then has been given.
            StreamGap: the next item is not there any more: trimmed, expired or forgotten.
            DecodeError: the next item cannot be read; its number is in the message.
            Unsupported: the store keeps no streams.
            Exception: what the task itself raised.
        """
        reader, deadline = self._reader(after, timeout)
        try:
            while page := await reader.next(deadline):
                for item in page:
                    yield item if result_type is None else item_as(item, self.id, result_type)
        finally:
            reader.close()
        self._end_of_stream(reader, timeout, propagate)

    async def _pages(
        self, after: int = 0, timeout: float | None = None, propagate: bool = True
    ) -> AsyncGenerator[Collection[Item], None]:
        """Iterate the same items as ``stream``, in lists of those that are available together."""
        reader, deadline = self._reader(after, timeout)
        try:
            while page := await reader.next(deadline):
                yield page
        finally:
            reader.close()
        self._end_of_stream(reader, timeout, propagate)

    def _reader(self, after: int, timeout: float | None) -> tuple[Reader, float | None]:
        """Return a reader, and its deadline."""
        check_timeout(timeout)
        if not 0 <= index(after) <= _HIGHEST:
            raise ValueError(f"after is the number of an item that was seen, or 0, not {after}")
        return Reader(self.backend._runtime, self.id, after, self._record), deadline_after(timeout)

    def _end_of_stream(self, reader: Reader, timeout: float | None, propagate: bool) -> None:
        if reader.final is None:
            raise reader._runtime.timeout_error([self.id], 1, timeout)
        record = self._keep(reader.final)
        if propagate and record.status in PROPAGATE_STATES:
            self._value(record)

    def leaves(self) -> list[AsyncResult[Any]]:
        """Return the single results in this one: itself."""
        return [self]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.id, self._type, self.parent, self.ignored)


def _restore(task_id: str, result_type: Any, parent: Result | None, ignored: bool | None) -> AsyncResult[Any]:
    """Rebuild a pickled result; its backend is the configured one of the process that unpickles it."""
    return AsyncResult(task_id, result_type=result_type, parent=parent, ignored=ignored)
