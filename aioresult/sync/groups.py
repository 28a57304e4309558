"""Sets and groups for blocking callers, with the methods that code written for Celery expects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, cast

import aioresult
from aioresult.backend import Backend as AsynchronousBackend
from aioresult.errors import ResultTimeout, Unsupported
from aioresult.record import Record, ResultTree, check_task_id
from aioresult.states import PROPAGATE_STATES
from aioresult.sync.arguments import backend_for, the_id
from aioresult.sync.backend import Backend
from aioresult.sync.members import Members, mirrored_of
from aioresult.sync.observing import Observer, OnInterval, OnMessage, OnValue, meta, refuse_within_a_task
from aioresult.sync.portal import run
from aioresult.sync.result import AsyncResult, Result, mirror
from aioresult.sync.revoking import Revocable
from aioresult.sync.verbs import as_completed

if TYPE_CHECKING:
    from aioresult.integrations.celery.edge import App


class ResultSet(Members, Revocable):
    """A mutable collection of results, each only once, that can be asked and awaited as one.

    Members may be groups themselves; their values are lists then. See ``aioresult.ResultSet``; arguments of the waiting
    methods that it does not have are Celery's, see ``AsyncResult.get``.

    Args:
        results: the members.
        app: a Celery application, in whose result backend groups are then saved.
        backend: where groups are saved; by default with ``app``'s results, or with those of the members.
    """

    TimeoutError = ResultTimeout
    supports_native_join = True

    def __init__(
        self,
        results: Iterable[Result] | None = (),
        app: App | None = None,
        *,
        backend: Backend | AsynchronousBackend | None = None,
    ) -> None:
        super().__init__(() if results is None else results)
        self._app = app
        self._backend = backend_for(backend, app)

    @property
    def app(self) -> App | None:
        """The Celery application given, or that of the first member."""
        return self.results[0].app if self._app is None and self.results else self._app

    @property
    def mirrored(self) -> aioresult.ResultSet:
        """The asynchronous set of the same members."""
        return aioresult.ResultSet(mirrored_of(self.results), backend=self._backend)

    @property
    def backend(self) -> Backend:
        """The backend given, or the application's, or that of the members, or the configured one."""
        return Backend(self.mirrored.backend)

    # --- asking: one read for all members ---

    def records(self) -> list[Record]:
        """Return the present records of all single members, those of nested groups included."""
        return run(self.mirrored.records)

    def ready(self) -> bool:
        """Return whether all are final."""
        return run(self.mirrored.ready)

    def successful(self) -> bool:
        """Return whether all have succeeded."""
        return run(self.mirrored.successful)

    def failed(self) -> bool:
        """Return whether any has failed."""
        return run(self.mirrored.failed)

    def waiting(self) -> bool:
        """Return whether any is not final."""
        return run(self.mirrored.waiting)

    def completed_count(self) -> int:
        """Return how many members have succeeded, as Celery counts them: a nested group is one, once all of it has."""
        return run(self.mirrored.completed_count)

    def maybe_throw(self, callback: OnValue | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first single member that has failed; never waits.

        Args:
            callback: called with the id and the present result of each single member before.
            propagate: ``False`` raises nothing, and also passes the exceptions to ``callback``.
        """
        for leaf, record in zip(self.leaves(), self.records(), strict=True):
            value = leaf.value(record, propagate) if record.status in PROPAGATE_STATES else record.result
            if callback is not None:
                callback(leaf.id, value)

    maybe_reraise = maybe_throw

    # --- waiting ---

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: OnValue | None = None,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: OnInterval | None = None,
    ) -> list[Any]:
        """Wait for all and return their values in the order of the members; nested groups give lists.

        With ``callback``, the id and the value of each member are passed to it as they come, and the list is empty.
        """
        refuse_within_a_task(disable_sync_subtasks)
        observer = Observer(on_message, on_interval, interval)
        if callback is not None:
            for member in self._arrivals(observer, timeout):
                callback(member.id, *run(aioresult.ResultSet([member.mirrored]).join, 0, propagate))
            return []
        mirrored = self.mirrored
        observer.wait(mirrored.leaves(), timeout, stop_at_failure=propagate)
        return run(mirrored.join, timeout, propagate)

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: OnValue | None = None,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: OnInterval | None = None,
    ) -> list[Any]:
        """Do the same as ``join``."""
        return self.join(timeout, propagate, interval, callback, no_ack, on_message, disable_sync_subtasks, on_interval)

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: OnValue | None = None,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """Do the same as ``join``; the order of the arguments is Celery's."""
        return self.join(timeout, propagate, interval, callback, no_ack, on_message, disable_sync_subtasks, on_interval)

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
    ) -> Iterator[tuple[str, dict[str, Any] | list[Result]]]:
        """Iterate the members as they become final: the id with Celery's ``meta``, or a group's id with its members."""
        for member in self._arrivals(Observer(on_message, on_interval, interval), timeout):
            yield member.id, meta(member.fetch()) if isinstance(member, AsyncResult) else member.results

    def as_completed(self, timeout: float | None = None) -> Iterator[AsyncResult[Any]]:
        """Iterate the single members as they become final."""
        return as_completed(self.results, timeout=timeout)

    def _arrivals(self, observer: Observer, timeout: float | None) -> Iterator[Result]:
        """Yield each member once all of its single results are final."""
        missing = [{id(leaf.mirrored) for leaf in member.leaves()} for member in self.results]
        owners: defaultdict[int, list[int]] = defaultdict(list)
        for index, leaves in enumerate(missing):
            if not leaves:
                yield self.results[index]
            for leaf in leaves:
                owners[leaf].append(index)
        for arrived in observer.arrivals(self.mirrored.leaves(), timeout):
            for index in owners.pop(id(arrived), ()):
                missing[index].discard(id(arrived))
                if not missing[index]:
                    yield self.results[index]

    def forget(self) -> None:
        """Delete the results of all members from the store."""
        run(self.mirrored.forget)

    def _to_revoke(self) -> list[str]:
        return [leaf.id for leaf in self.leaves()]  # a nested group's own id, which Celery sends, is no task's

    def then(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: nothing would call the callback while nobody waits."""
        raise Unsupported("then() is not supported; pass callback= to join(), or iterate as_completed()")

    def __repr__(self) -> str:
        return f"<sync {repr(self.mirrored)[1:]}"

    def __eq__(self, other: object) -> bool:
        return self.results == other.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable; a group is known by its id

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_app": None, "_backend": None}  # as of its members, see AsyncResult


class GroupResult(ResultSet):
    """A set of results with an id under which it can be saved and restored.

    Args:
        group_id: the group's id; by default a new one.
        results: the members.
        parent: the result that led to this group.
        id: Celery's name of ``group_id``.
        backend: where it is saved; by default with ``app``'s results, or with those of the members.
        app: a Celery application.
    """

    def __init__(
        self,
        group_id: str | None = None,
        results: Iterable[Result] | None = (),
        parent: Result | None = None,
        *,
        id: str | None = None,  # noqa: A002  (Celery's name)
        backend: Backend | AsynchronousBackend | None = None,
        app: App | None = None,
    ) -> None:
        super().__init__(results, app, backend=backend)
        self.id = aioresult.GroupResult(the_id(group_id, id)).id
        self.parent = parent

    @classmethod
    def mirroring(cls, mirrored: aioresult.GroupResult, app: App | None = None) -> GroupResult:
        """Return the blocking form of an asynchronous group."""
        parent = None if mirrored.parent is None else mirror(mirrored.parent, app)
        results = [mirror(result, app) for result in mirrored.results]
        backend = cast("AsynchronousBackend", mirrored.backend)
        return cls(mirrored.id, results, parent, backend=backend, app=app)

    @property
    def mirrored(self) -> aioresult.GroupResult:
        """The asynchronous group of the same members."""
        parent = None if self.parent is None else self.parent.mirrored
        return aioresult.GroupResult(self.id, mirrored_of(self.results), parent, backend=self._backend)

    @property
    def children(self) -> list[Result]:
        """The members."""
        return self.results

    def save(self, backend: Backend | AsynchronousBackend | None = None) -> None:
        """Save the group, not its members' results, under its id; it expires as results do."""
        run(self.mirrored.save, backend_for(backend))

    @classmethod
    def restore(
        cls,
        group_id: str | None = None,
        backend: Backend | AsynchronousBackend | None = None,
        app: App | None = None,
        *,
        id: str | None = None,  # noqa: A002  (Celery's name)
    ) -> GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved; arguments as of the constructor."""
        name = check_task_id(the_id(group_id, id))
        group = run(aioresult.GroupResult.restore, name, backend_for(backend, app))
        return None if group is None else cls.mirroring(group, app)

    def delete(self, backend: Backend | AsynchronousBackend | None = None) -> None:
        """Delete the saved group; its members' results stay."""
        run(self.mirrored.delete, backend_for(backend))

    def as_tuple(self) -> ResultTree:
        """Return the ids of the group, its ancestors and its members, in Celery's form."""
        return self.mirrored.as_tuple()

    def as_list(self) -> list[str]:
        """Return the id and those of its ancestors."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    def __bool__(self) -> bool:
        return True  # a group is something even without members, as in Celery

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:  # type: ignore[override]  # a set is mutable, a group is known by its id
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return self.id == other.id and self.results == other.results and self.parent == other.parent
        return self.id == other if isinstance(other, str) else NotImplemented
