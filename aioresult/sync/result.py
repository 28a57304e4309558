"""``aioresult.AsyncResult`` for blocking callers, with the attributes that code written for Celery expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn

from aioresult import result as asynchronous
from aioresult.backend import Backend
from aioresult.default import ancestors_of
from aioresult.errors import ResultTimeout, TaskRevokedError, Unsupported
from aioresult.record import Record, check_task_id
from aioresult.states import PROPAGATE_STATES
from aioresult.stream import Item
from aioresult.sync.errors import as_celerys
from aioresult.sync.fields import Fields
from aioresult.sync.mirrors import backend_for, blocking, mirror, the_id
from aioresult.sync.observing import Observer, OnInterval, OnMessage, OnValue, refuse_within_a_task
from aioresult.sync.portal import iterate, refuse_to_block_a_loop, run
from aioresult.sync.storing import StoringBackend
from aioresult.sync.tree import Result, Tree
from aioresult.values import item_as

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from aioresult.integrations.celery.protocols import App

    T = TypeVar("T", default=Any)  # where no ``result_type`` is given
else:
    from typing import TypeVar

    T = TypeVar("T")  # before Python 3.13 it has no default


class AsyncResult(Fields, Tree, Generic[T]):
    """The result of the task ``task_id``, for blocking callers.

    Each attribute that depends on the task's state asks the store, until the task is known to be final. Arguments are
    those of ``aioresult.AsyncResult``, and Celery's.

    Args:
        task_id: the task's id.
        backend: where the result is stored; by default in ``app``'s result backend, or in the configured one.
        task_name: has no effect, as in Celery.
        app: a Celery application, whose results these are; see ``aioresult.integrations.celery.backend_from_app``.
        parent: the result of the task or group that led to this one; its failure is raised by ``get``.
        id: Celery's name of ``task_id``.
        result_type: converts the value.
        ignored: whether the producer was told not to store the result; ``None`` means what the settings say.

    Attributes:
        app: the Celery application given, or ``None``.
        mirrored: the asynchronous result that this one mirrors.
        id: the task's id.
        parent: the result of the task or group that led to this one.
    """

    TimeoutError: ClassVar = ResultTimeout
    """The error of ``get`` after the timeout, under Celery's name."""
    supports_native_join: ClassVar = True

    app: App | None
    __slots__ = ("__weakref__", "app", "id", "mirrored", "parent")

    def __init__(
        self,
        task_id: str | None = None,
        backend: StoringBackend | Backend | None = None,
        task_name: str | None = None,
        app: App | None = None,
        parent: Result | None = None,
        *,
        id: str | None = None,  # noqa: A002  (Celery's name)
        result_type: type[T] | None = None,
        ignored: bool | None = None,
    ) -> None:
        self.app = app
        self.parent = parent
        self.mirrored: asynchronous.AsyncResult[T] = asynchronous.AsyncResult(
            check_task_id(the_id(task_id, id)),
            backend_for(backend, app),
            result_type=result_type,
            parent=None if parent is None else parent.mirrored,
            ignored=ignored,
        )
        self.id = self.mirrored.id

    @classmethod
    def mirroring(cls, mirrored: asynchronous.AsyncResult[T], app: App | None = None) -> AsyncResult[T]:
        """Return the blocking form of an asynchronous result."""
        result = cls.__new__(cls)
        result.app = app
        result.mirrored = mirrored
        result.id = mirrored.id
        result.parent = None if mirrored.parent is None else mirror(mirrored.parent, app)
        return result

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def ignored(self) -> bool | None:
        """Whether the producer was told not to store the result; ``None`` means what the settings say."""
        return self.mirrored.ignored

    @ignored.setter
    def ignored(self, ignored: bool | None) -> None:
        self.mirrored.ignored = ignored

    @property
    def final(self) -> Record | None:
        """The final record, if it has been seen; does not ask the store."""
        return self.mirrored.final

    # --- waiting ---

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: OnValue | None = None,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
        disable_sync_subtasks: bool = True,
        *,
        forget: bool = False,
    ) -> T:
        """Wait for the task and return its value, or raise what it failed with.

        The arguments that ``aioresult.AsyncResult.get`` does not have are Celery's; the errors are described there.

        Args:
            timeout: seconds to wait; ``None`` waits for ever, 0 looks once.
            propagate: raise the task's exception; ``False`` returns it instead.
            interval: seconds between two calls of ``on_interval``; has no other effect, since the store pushes.
            no_ack: has no effect.
            follow_parents: with a ``parent``, raise the failure of an ancestor as soon as it is known.
            callback: called with the id and the value; with an exception only if it is returned.
            on_message: called with Celery's ``meta`` dictionary for each state, the final one included.
            on_interval: called at once and then every ``interval`` seconds while waiting.
            disable_sync_subtasks: refuse to wait within one of Celery's tasks.
            forget: delete the result from the store once it was received.
        """
        refuse_within_a_task(disable_sync_subtasks)
        ancestors = ancestors_of(self.mirrored) if propagate and follow_parents else []
        observer = Observer(on_message, on_interval, interval)
        observer.wait([self.mirrored], timeout, ancestors=ancestors, stop_at_failure=propagate)
        value = run(self.mirrored.get, timeout, propagate, forget=forget, follow_parents=follow_parents)
        if callback is not None:
            callback(self.id, value)
        return value

    def wait(self, timeout: float | None = None) -> Record:
        """Wait for the task and return its final record, also that of a failed or revoked task.

        It does not return the value. This is the one name with another meaning in Celery, where ``wait`` is a
        deprecated alias of ``get``: code that uses it must call ``get`` here.
        """
        return self.mirrored.final or run(self.mirrored.wait, timeout)

    def updates(self, timeout: float | None = None) -> Iterator[Record]:
        """Iterate the task's states as they change: first what is stored now, if anything, last the final one."""
        return iterate(lambda: self.mirrored.updates(timeout))

    def stream(
        self,
        after: int = 0,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        result_type: type[Any] | None = None,
    ) -> Iterator[Item]:
        """Iterate the task's stream; see ``aioresult.AsyncResult.stream``."""
        for page in iterate(lambda: self.mirrored._pages(after, timeout, propagate)):
            for item in page:
                yield item if result_type is None else item_as(item, self.id, result_type)

    # --- querying ---

    def fetch(self) -> Record:
        """Return the record as it is now; ``PENDING`` where nothing is stored."""
        return self.mirrored.final or run(self.mirrored.fetch)

    def ready(self) -> bool:
        """Return whether the task is final."""
        return self.fetch().ready

    def successful(self) -> bool:
        """Return whether the task has succeeded."""
        return self.fetch().successful

    def failed(self) -> bool:
        """Return whether the task has failed; a revoked one has not."""
        return self.fetch().failed

    def exists(self) -> bool:
        """Return whether anything is stored under the task's id."""
        return self.id in self.backend.fetch_many([self.id])

    forget = blocking(asynchronous.AsyncResult.forget)

    def _value(self, record: Record, propagate: bool = True) -> T:
        """Return what ``get`` makes of a final record: its value, or its exception raised or returned."""
        try:
            return self.mirrored._value(record, propagate)
        except TaskRevokedError as exc:
            raise as_celerys(exc) from exc.__cause__

    def maybe_throw(self, propagate: bool = True, callback: OnValue | None = None) -> Any:
        """Return the present result, or raise the task's exception if it has failed; never waits."""
        record = self.fetch()
        value = self._value(record, propagate) if record.status in PROPAGATE_STATES else record.result
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    # --- the tree of results ---

    @property
    def children(self) -> list[Result] | None:
        """The results of the tasks that this one started; ``None`` where that was not recorded."""
        trees, backend = self.fetch().children, self.mirrored.backend
        return None if trees is None else [mirror(backend._result_from_tree(tree), self.app) for tree in trees]

    # --- not possible with a result backend alone ---

    def _to_revoke(self) -> str:
        return self.id

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, str | list[str]],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Tell all workers not to run tasks with these ``headers``; for the other arguments see ``revoke``."""
        refuse_to_block_a_loop()
        if self.app is None:
            raise Unsupported(
                f"{self._named()}: headers are known to Celery's workers only; make the result with app=app, or call "
                f"app.control.revoke_by_stamped_headers(headers) of the Celery app"
            )
        from aioresult.integrations.celery.revoking import by_stamped_headers, tell_and_wait

        command, what = by_stamped_headers(headers, terminate, signal), "revoking tasks by their stamped headers"
        tell_and_wait(self.app, what, command, connection, reply=wait, timeout=timeout)

    def then(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: without a waiting caller, nothing would call the callback."""
        raise Unsupported(
            "then() is not supported; pass callback= to get(), iterate as_completed(), or await the result in asyncio "
            "code"
        )

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __copy__(self) -> AsyncResult[T]:
        return type(self).mirroring(self.mirrored, self.app)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).mirroring, (self.mirrored,)


mirror.register(asynchronous.AsyncResult, AsyncResult.mirroring)
