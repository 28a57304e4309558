"""Sets and groups of results, queried and awaited as one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, cast

from aioresult.collecting import as_completed, current_records, final_records, leaves
from aioresult.collection import Collection
from aioresult.default import Result, ResultBackend, check_backend, get_default
from aioresult.record import Record, ResultTree, check_task_id
from aioresult.result import AsyncResult
from aioresult.runtime import check_timeout


class ResultSet(Collection[Result]):
    """A mutable collection of results, each only once, that can be queried and awaited as one.

    Members may be groups themselves; their values are lists then.
    """

    def __init__(self, results: Iterable[Result] = (), *, backend: ResultBackend | None = None) -> None:
        super().__init__(results)
        self._backend = check_backend(backend)

    @property
    def backend(self) -> ResultBackend:
        """The backend given, or that of the members, or the configured one."""
        if self._backend is None:
            self._backend = self.results[0].backend if self.results else get_default()
        return self._backend

    def leaves(self) -> list[AsyncResult[Any]]:
        """Return the single results in this, those of nested groups included, in order."""
        return leaves(self.results)

    # --- querying: one read for all members ---

    async def records(self) -> list[Record]:
        """Return the present records of all single members, those of nested groups included."""
        return await current_records(self.leaves())

    async def ready(self) -> bool:
        """Return whether all are final."""
        return all(record.ready for record in await self.records())

    async def successful(self) -> bool:
        """Return whether all have succeeded."""
        return all(record.successful for record in await self.records())

    async def failed(self) -> bool:
        """Return whether any has failed."""
        return any(record.failed for record in await self.records())

    async def waiting(self) -> bool:
        """Return whether any is not final."""
        return not await self.ready()

    async def completed_count(self) -> int:
        """Return how many members have succeeded, as in Celery: a nested group counts as one, once all of it has."""
        singles = self.leaves()
        records = dict(zip(singles, await current_records(singles), strict=True))
        return sum(all(records[leaf].successful for leaf in member.leaves()) for member in self.results)

    # --- waiting ---

    async def join(self, timeout: float | None = None, propagate: bool = True) -> list[Any]:
        """Wait for all and return their values in the order of the members; nested groups give lists.

        Args:
            timeout: seconds for all together; ``None`` waits for ever, 0 looks once.
            propagate: raise the first failure as soon as it is known; ``False`` puts exceptions among the values.

        Raises:
            ResultTimeout: not all were final in time.
            Exception: what the first failing task raised.
        """
        check_timeout(timeout)
        records = await final_records(self.leaves(), timeout, stop_at_failure=propagate)
        return values_of(self.results, records, propagate)

    async def get(self, timeout: float | None = None, propagate: bool = True) -> list[Any]:
        """Do the same as ``join``."""
        return await self.join(timeout, propagate)

    async def as_completed(self, timeout: float | None = None) -> AsyncIterator[AsyncResult[Any]]:
        """Iterate the single members as they become final.

        Raises:
            ResultTimeout: not all were final in time.
        """
        async for result in as_completed(self.results, timeout=timeout):
            yield result

    async def revoke(self, reason: str | None = None, *, terminate: bool = False, signal: str | None = None) -> int:
        """Revoke all members that are not final, in one batch; see ``AsyncResult.revoke``.

        Returns:
            How many single members were revoked by this call.
        """
        revoking = [leaf.revoke(reason, terminate=terminate, signal=signal) for leaf in self.leaves()]
        return sum(await asyncio.gather(*revoking))

    async def forget(self) -> None:
        """Delete the results of all members from the store."""
        await asyncio.gather(*(result.forget() for result in self.leaves()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.results)}>"

    def __eq__(self, other: object) -> bool:
        return self.results == other.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable; a group is known by its id

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_backend": None}  # an unpickled set uses the backend of its new process


class GroupResult(ResultSet):
    """A set of results with an id under which it can be saved and restored.

    Args:
        group_id: the group's id; by default a new one.
        results: the members.
        parent: the result that led to this group.
        backend: where it is saved; by default that of the members.
    """

    def __init__(
        self,
        group_id: str | None = None,
        results: Iterable[Result] = (),
        parent: Result | None = None,
        *,
        backend: ResultBackend | None = None,
    ) -> None:
        super().__init__(results, backend=backend)
        self.id = str(uuid.uuid4()) if group_id is None else check_task_id(group_id)
        self.parent = parent

    @property
    def children(self) -> list[Result]:
        """The members."""
        return self.results

    async def save(self, backend: ResultBackend | None = None) -> None:
        """Save the group, not its members' results, under its id; it expires as results do."""
        async with (check_backend(backend) or self.backend)._runtime.calling() as store:
            await store.put_group(self.id, self.as_tuple())

    @classmethod
    async def restore(cls, group_id: str, backend: ResultBackend | None = None) -> GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved."""
        backend = cls(group_id, backend=backend).backend
        async with backend._runtime.calling() as store:
            tree = await store.get_group(group_id)
        if tree is None:
            return None
        group = from_tree(tree, backend)
        return group if isinstance(group, GroupResult) else GroupResult(group_id, [group], backend=backend)

    async def delete(self, backend: ResultBackend | None = None) -> None:
        """Delete the saved group; its members' results stay."""
        async with (check_backend(backend) or self.backend)._runtime.calling() as store:
            await store.delete_group(self.id)

    def as_tuple(self) -> ResultTree:
        """Return the ids of the group, its ancestors and its members, in Celery's form."""
        parent = None if self.parent is None else self.parent.as_tuple()
        return ((self.id, parent), [member.as_tuple() for member in self.results])

    def __json__(self) -> ResultTree:
        """Return the form in which a group is stored as a value, which is Celery's too."""
        return self.as_tuple()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} of {len(self.results)}>"

    def __str__(self) -> str:
        return self.id

    def __bool__(self) -> bool:
        """A group is true even without members, because ``restore`` returns ``None`` where there is no group."""
        return True

    def __hash__(self) -> int:  # type: ignore[override]  # a set is mutable, a group is known by its id
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return self.id == other.id and self.results == other.results and self.parent == other.parent
        return self.id == other if isinstance(other, str) else NotImplemented


def from_tree(tree: ResultTree, backend: ResultBackend | None = None) -> Result:
    """Return the result or group that Celery's tuple form describes: ``[[id, parent], members]`` or ``[id,
    members]``.
    """
    if isinstance(tree, str):
        return AsyncResult(tree, backend)
    head, members = tree
    task_id, parent_tree = (head, None) if isinstance(head, str) else head
    parent = None if parent_tree is None else from_tree(parent_tree, backend)
    if members is None:
        return AsyncResult(task_id, backend, parent=parent)
    return GroupResult(task_id, [from_tree(member, backend) for member in members], parent, backend=backend)


def values_of(results: Sequence[Result], records: Mapping[AsyncResult[Any], Record], propagate: bool) -> list[Any]:
    """Return the values of ``results``, given the records of all single ones; groups among them give lists."""
    values: list[Any] = []
    for result in results:
        if not isinstance(result, AsyncResult):
            values.append(values_of(cast("ResultSet", result).results, records, propagate))
        elif propagate:
            values.append(result._value(records[result]))
        else:
            record = records[result]
            values.append(record.error or result._value(record, propagate=False))
    return values
