"""Sets and groups for blocking callers, with the methods that code written for Celery expects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, cast

from aioresult import groups as asynchronous
from aioresult.backend import Backend
from aioresult.collection import Collection
from aioresult.errors import ResultTimeout, Unsupported
from aioresult.record import ResultTree, check_task_id
from aioresult.states import PROPAGATE_STATES
from aioresult.sync.many import as_completed, leaves_of
from aioresult.sync.mirrors import backend_for, blocking, mirror, the_id
from aioresult.sync.observing import Observer, OnInterval, OnMessage, OnValue, meta, refuse_within_a_task
from aioresult.sync.portal import run
from aioresult.sync.result import AsyncResult
from aioresult.sync.revoking import Revocable
from aioresult.sync.storing import StoringBackend
from aioresult.sync.tree import Result

if TYPE_CHECKING:
    from aioresult.integrations.celery.protocols import App


class ResultSet(Collection[Result], Revocable):
    """A mutable collection of results, each only once, that can be queried and awaited as one.

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
        backend: StoringBackend | Backend | None = None,
    ) -> None:
        super().__init__(() if results is None else results)
        self._app = app
        self._backend = backend_for(backend, app)

    @property
    def app(self) -> App | None:
        """The Celery application given, or that of the first member."""
        return self.results[0].app if self._app is None and self.results else self._app

    @property
    def mirrored(self) -> asynchronous.ResultSet:
        """The asynchronous set of the same members."""
        return asynchronous.ResultSet([member.mirrored for member in self.results], backend=self._backend)

    def leaves(self) -> list[AsyncResult[Any]]:
        """Return the single results in this, those of nested groups included, in order."""
        return leaves_of(self.results)

    # --- querying: one read for all members ---

    records = blocking(asynchronous.ResultSet.records)
    ready = blocking(asynchronous.ResultSet.ready)
    successful = blocking(asynchronous.ResultSet.successful)
    failed = blocking(asynchronous.ResultSet.failed)
    waiting = blocking(asynchronous.ResultSet.waiting)
    completed_count = blocking(asynchronous.ResultSet.completed_count)

    def maybe_throw(self, callback: OnValue | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first single member that has failed; never waits.

        Args:
            callback: called before that, with the id and the present result of each single member.
            propagate: ``False`` raises nothing, and passes exceptions to ``callback`` as well.
        """
        for leaf, record in zip(self.leaves(), self.records(), strict=True):
            value = leaf._value(record, propagate) if record.status in PROPAGATE_STATES else record.result
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
                callback(member.id, *run(asynchronous.ResultSet([member.mirrored]).join, 0, propagate))
            return []
        mirrored = self.mirrored
        observer.wait(mirrored.leaves(), timeout, stop_at_failure=propagate)
        return run(mirrored.join, timeout, propagate)

    get = join

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
            yield member.id, meta(member.fetch()) if isinstance(member, AsyncResult) else list(member.children or ())

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

    forget = blocking(asynchronous.ResultSet.forget)

    def _to_revoke(self) -> list[str]:
        return [leaf.id for leaf in self.leaves()]  # Celery also sends the id of a nested group, which is not a task's

    def then(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: without a waiting caller, nothing would call the callback."""
        raise Unsupported("then() is not supported; pass callback= to join(), or iterate as_completed()")

    def __eq__(self, other: object) -> bool:
        return self.results == other.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable; a group is known by its id

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_app": None, "_backend": None}  # as in its members, see AsyncResult


class GroupResult(ResultSet, Result):
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
        backend: StoringBackend | Backend | None = None,
        app: App | None = None,
    ) -> None:
        super().__init__(results, app, backend=backend)
        self.id = asynchronous.GroupResult(the_id(group_id, id)).id
        self.parent = parent

    @classmethod
    def mirroring(cls, mirrored: asynchronous.GroupResult, app: App | None = None) -> GroupResult:
        """Return the blocking form of an asynchronous group."""
        parent = None if mirrored.parent is None else mirror(mirrored.parent, app)
        results = [mirror(result, app) for result in mirrored.results]
        backend = cast("Backend", mirrored.backend)
        return cls(mirrored.id, results, parent, backend=backend, app=app)

    @property
    def mirrored(self) -> asynchronous.GroupResult:
        """The asynchronous group of the same members."""
        parent = None if self.parent is None else self.parent.mirrored
        return asynchronous.GroupResult(
            self.id, [member.mirrored for member in self.results], parent, backend=self._backend
        )

    @property
    def children(self) -> list[Result]:
        """The members."""
        return self.results

    def save(self, backend: StoringBackend | Backend | None = None) -> None:
        """Save the group, not its members' results, under its id; it expires as results do."""
        run(self.mirrored.save, backend_for(backend))

    @classmethod
    def restore(
        cls,
        group_id: str | None = None,
        backend: StoringBackend | Backend | None = None,
        app: App | None = None,
        *,
        id: str | None = None,  # noqa: A002  (Celery's name)
    ) -> GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved; arguments as in the constructor."""
        name = check_task_id(the_id(group_id, id))
        group = run(asynchronous.GroupResult.restore, name, backend_for(backend, app))
        return None if group is None else cls.mirroring(group, app)

    def delete(self, backend: StoringBackend | Backend | None = None) -> None:
        """Delete the saved group; its members' results stay."""
        run(self.mirrored.delete, backend_for(backend))

    def __bool__(self) -> bool:
        return True  # a group is true even without members, as in Celery

    def __hash__(self) -> int:  # type: ignore[override]  # a set is mutable, a group is known by its id
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return self.id == other.id and self.results == other.results and self.parent == other.parent
        return self.id == other if isinstance(other, str) else NotImplemented


mirror.register(asynchronous.GroupResult, GroupResult.mirroring)


def result_from_tuple(r: ResultTree | Result, app: App | None = None) -> Result:
    """Return the result or group from its ``as_tuple`` form ``r``, as Celery's function of this name does.

    Args:
        r: ``[[id, parent], members]``, or a result, which is returned as it is.
        app: a Celery application, whose results these are; by default they are in the configured backend.
    """
    if isinstance(r, Result):
        return r
    result: Result = mirror(asynchronous.from_tree(r, backend_for(None, app)), app)
    return result
