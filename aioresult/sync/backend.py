"""``aioresult.Backend`` for blocking callers: the same methods without ``await``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from aioresult import backend as asynchronous
from aioresult.abc import Capabilities
from aioresult.errors import SettingsError
from aioresult.record import Record
from aioresult.runtime import Stats
from aioresult.settings import Settings
from aioresult.sync.portal import run

if TYPE_CHECKING:
    from aioresult.sync import groups
    from aioresult.sync import result as results
    from aioresult.sync.result import Result

T = TypeVar("T")


class Backend:
    """Where results are stored and awaited; see ``aioresult.Backend`` for the arguments and for every method.

    Also takes an ``aioresult.Backend``, which is then shared: its blocking callers use connections of their own.
    """

    def __init__(self, url_or_store: object = None, **settings: Any) -> None:
        if not isinstance(url_or_store, asynchronous.Backend):
            url_or_store = asynchronous.Backend(url_or_store, **settings)
        elif settings:
            raise SettingsError(f"a ready backend has its settings: {', '.join(settings)} cannot be changed any more")
        self._async = url_or_store

    @property
    def mirrored(self) -> asynchronous.Backend:
        """The asynchronous backend that this one stands for."""
        return self._async

    @property
    def settings(self) -> Settings:
        """The checked settings."""
        return self._async.settings

    # --- results ---

    @overload
    def AsyncResult(self, task_id: str, *, parent: Result | None = None) -> results.AsyncResult[Any]: ...

    @overload
    def AsyncResult(
        self, task_id: str, *, result_type: type[T], parent: Result | None = None
    ) -> results.AsyncResult[T]: ...

    def AsyncResult(  # noqa: N802  (named as in Celery)
        self, task_id: str, *, result_type: type[T] | None = None, parent: Result | None = None
    ) -> results.AsyncResult[T]:
        """Return the result of ``task_id`` in this backend."""
        from aioresult.sync import result as results

        return results.AsyncResult(task_id, self, result_type=result_type, parent=parent)

    def GroupResult(  # noqa: N802  (named as in Celery)
        self, group_id: str | None = None, results: Iterable[Result] = (), parent: Result | None = None
    ) -> groups.GroupResult:
        """Return a group of results in this backend."""
        from aioresult.sync import groups

        return groups.GroupResult(group_id, results, parent, backend=self)

    def restore_group(self, group_id: str) -> groups.GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved."""
        from aioresult.sync import groups

        group = run(self._async.restore_group, group_id)
        return None if group is None else groups.GroupResult.mirroring(group)

    def save_group(self, group: groups.GroupResult) -> None:
        """Save ``group``, so that ``restore_group`` gives it back."""
        run(self._async.save_group, group.mirrored)

    def delete_group(self, group_id: str) -> None:
        """Delete the saved group ``group_id``; its members' results stay."""
        run(self._async.delete_group, group_id)

    # --- writing: each returns whether it wrote ---

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        *,
        ignore_result: bool | None = None,
        **meta: Any,
    ) -> bool:
        """Store a state of a task and wake whoever waits for it."""
        return run(self._async.store_result, task_id, result, state, traceback, ignore_result=ignore_result, **meta)

    def mark_as_started(self, task_id: str, **meta: Any) -> bool:
        """Store STARTED with ``meta`` as its result; by default this process's id and host, as workers do."""
        return run(self._async.mark_as_started, task_id, **meta)

    def mark_as_done(self, task_id: str, result: Any, **meta: Any) -> bool:
        """Store SUCCESS."""
        return run(self._async.mark_as_done, task_id, result, **meta)

    def mark_as_failure(self, task_id: str, exc: BaseException, traceback: str | None = None, **meta: Any) -> bool:
        """Store FAILURE with its exception."""
        return run(self._async.mark_as_failure, task_id, exc, traceback, **meta)

    def mark_as_retry(
        self, task_id: str, exc: BaseException | None = None, traceback: str | None = None, **meta: Any
    ) -> bool:
        """Store RETRY with the exception that led to it."""
        return run(self._async.mark_as_retry, task_id, exc, traceback, **meta)

    def mark_as_revoked(self, task_id: str, reason: str = "revoked", **meta: Any) -> bool:
        """Store REVOKED; ``reason`` is Celery's ``revoked``, ``terminated`` or ``expired``, or a text of your own."""
        return run(self._async.mark_as_revoked, task_id, reason, **meta)

    def update_state(self, task_id: str, state: str, meta: Any = None) -> bool:
        """Store a state of your own, such as PROGRESS, with ``meta`` as its result."""
        return run(self._async.update_state, task_id, state, meta)

    def forget(self, task_id: str) -> bool:
        """Delete the result of ``task_id``, whether or not there is one."""
        return run(self._async.forget, task_id)

    def put_record(self, record: Record) -> bool:
        """Store ``record`` as it is, and return whether it was written."""
        return run(self._async.put_record, record)

    # --- reading and managing ---

    def fetch(self, task_id: str) -> Record:
        """Return the record of ``task_id`` as it is now; PENDING where nothing is stored."""
        return run(self._async.fetch, task_id)

    def append(self, task_id: str, *values: Any, attempt: int = 0) -> int:
        """Append ``values`` to the stream of a task, and return the number of the last item."""
        return run(self._async.append, task_id, *values, attempt=attempt)

    def fetch_many(self, ids: Iterable[str]) -> dict[str, Record]:
        """Return the records of those of ``ids`` that have one, in one read; unreadable ones have an ``error``."""
        return run(self._async.fetch_many, list(ids))

    def purge(self) -> int:
        """Delete expired results and return how many; 0 where the store expires them by itself."""
        return run(self._async.purge)

    def ping(self) -> None:
        """Make one round trip to the store, or raise ``StoreUnavailable``."""
        run(self._async.ping)

    def capabilities(self) -> Capabilities:
        """Say how results are pushed here, and why so."""
        return run(self._async.capabilities)

    def stats(self) -> Stats:
        """Return the counters of all blocking callers of this process together."""

        async def within_the_portal() -> Stats:
            return self._async.stats()

        return run(within_the_portal)

    def close(self) -> None:
        """Close what blocking callers have opened; whoever still waits gets an error."""
        run(self._async.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._async)

    def __eq__(self, other: object) -> bool:
        return self._async is other._async if isinstance(other, Backend) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._async)


def configure(url_or_store: object = None, **settings: Any) -> Backend:
    """Make the backend that this process uses where none is given, in blocking and asynchronous code, and return it."""
    return Backend(asynchronous.configure(url_or_store, **settings))


def get_backend() -> Backend:
    """Return the configured backend; without one, the backend of the environment variable ``AIORESULT_URL``."""
    return Backend(asynchronous.get_backend())
