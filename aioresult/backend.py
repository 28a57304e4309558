"""The backend: a recipe for a store, usable from any event loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeVar, cast, overload

from aioresult import groups
from aioresult import result as results
from aioresult.abc import Capabilities, Store
from aioresult.default import Result, get_default, set_default
from aioresult.errors import BackendNotConfigured, SettingsError
from aioresult.record import Record, ResultTree, check_task_id
from aioresult.runtime import Runtime, Runtimes, Stats
from aioresult.settings import make_settings
from aioresult.stores import opener
from aioresult.writing import Writer

T = TypeVar("T")


class Backend(Writer):
    """Where results are stored and awaited.

    A backend is a recipe: it may be made anywhere, even before an event loop runs, and connects at its first use. It
    keeps one set of connections for each event loop that uses it, so that the same backend works in ``asyncio.run``
    twice, in a test's fresh loop, and from other threads. It is closed with its loop, or by ``aclose()`` or ``async
    with``, and opens again when it is used again. After a fork the child starts afresh.

    Args:
        url_or_store: a URL such as ``redis://localhost:6379/0``, a ``Store``, or a client of redis-py, PyMongo, Motor
            or SQLAlchemy, which remains the caller's to close. ``None`` takes the setting ``result_backend``. A store
            serves the loop that uses it first; ``Store.another`` makes one for each further loop. A client serves the
            loops that its driver supports: redis-py's any loop, the others the one in which they were made.
        settings: see ``aioresult.Settings``; Celery's names, times in seconds. A ready ``Store`` has its own.

    Raises:
        SettingsError: the URL or a setting is not understood.
        MissingDriver: the store's driver is not installed.
    """

    def __init__(self, url_or_store: object = None, **settings: Any) -> None:
        if isinstance(url_or_store, Store) and settings:
            raise SettingsError(f"a ready store has settings of its own: give {', '.join(settings)} to the store")
        self.settings = url_or_store.settings if isinstance(url_or_store, Store) else make_settings(settings)
        source = url_or_store if url_or_store is not None else self.settings.result_backend
        if source is None:
            raise BackendNotConfigured("a backend needs a URL, a store or a client, or the setting result_backend")
        self._runtimes = Runtimes(opener(source, self.settings))

    def __repr__(self) -> str:
        runtimes = self._runtimes.all()
        if not runtimes:
            return f"<{type(self).__name__} (not in use)>"
        waiting = sum(runtime.hub.waiting for runtime in runtimes)
        return f"<{type(self).__name__} {runtimes[0].store.location} loops={len(runtimes)} waiting={waiting}>"

    @property
    def _runtime(self) -> Runtime:
        """The runtime of the running event loop, made at its first use."""
        return self._runtimes.current()

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
        return results.AsyncResult(task_id, self, result_type=result_type, parent=parent)

    def GroupResult(  # noqa: N802  (named as in Celery)
        self, group_id: str | None = None, results: Iterable[Result] = (), parent: Result | None = None
    ) -> groups.GroupResult:
        """Return a group of results in this backend."""
        return groups.GroupResult(group_id, results, parent, backend=self)

    def _result_from_tree(self, tree: ResultTree) -> Result:
        """Return the result or group in this backend that Celery's tuple form describes (``Record.children``)."""
        return groups.from_tree(tree, self)

    async def restore_group(self, group_id: str) -> groups.GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved."""
        return await groups.GroupResult.restore(group_id, self)

    async def save_group(self, group: groups.GroupResult) -> None:
        """Save ``group``, so that ``restore_group`` gives it back."""
        await group.save(self)

    async def delete_group(self, group_id: str) -> None:
        """Delete the saved group ``group_id``; its members' results stay."""
        await self.GroupResult(group_id).delete()

    # --- reading and managing ---

    async def fetch(self, task_id: str) -> Record:
        """Return the record of ``task_id`` as it is now; PENDING where nothing is stored.

        Raises:
            DecodeError: something is stored that cannot be read.
        """
        task_id = check_task_id(task_id)
        record = await self._runtime.look(task_id)
        if record is None:
            return Record(id=task_id)
        if record.error is not None:
            raise record.error
        return record

    async def fetch_many(self, ids: Iterable[str]) -> dict[str, Record]:
        """Return the records of those of ``ids`` that have one, in one read; unreadable ones have an ``error``."""
        return await self._runtime.look_many([check_task_id(task_id) for task_id in ids])

    async def forget(self, task_id: str) -> bool:
        """Delete the result and the stream of ``task_id``, whether or not there is one."""
        runtime = self._runtime
        await runtime.batcher.delete(runtime.check(check_task_id(task_id)))
        return True

    async def purge(self) -> int:
        """Delete expired results and return how many; 0 where the store expires them by itself."""
        async with self._runtime.calling() as store:
            return await store.purge()

    async def ping(self) -> None:
        """Make one round trip to the store, or raise ``StoreUnavailable``."""
        async with self._runtime.calling() as store:
            await store.ping()

    async def capabilities(self) -> Capabilities:
        """Return how results are pushed here, and why this way."""
        async with self._runtime.calling() as store:
            return await store.capabilities()

    def stats(self) -> Stats:
        """Return the counters of the running event loop."""
        return self._runtime.stats()

    async def aclose(self) -> None:
        """Close what this backend has opened in the running event loop; callers that still wait get an error."""
        await self._runtimes.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def configure(url_or_store: object = None, **settings: Any) -> Backend:
    """Make the backend that this process uses where none is given, and return it. See ``Backend`` for the arguments.

    An existing ``Backend`` is accepted too: ``configure(backend_from_app(app))``.
    """
    backend = as_backend(url_or_store, **settings)
    set_default(backend)
    return backend


def as_backend(given: object = None, **settings: Any) -> Backend:
    """Return a ``Backend`` as it is, and make one from everything else."""
    if not isinstance(given, Backend):
        return Backend(given, **settings)
    if settings:
        raise SettingsError(f"a ready backend has settings of its own: give {', '.join(settings)} to the backend")
    return given


def get_backend() -> Backend:
    """Return the configured backend; without one, the backend of the environment variable ``AIORESULT_URL``.

    Raises:
        BackendNotConfigured: there is neither.
    """
    return cast("Backend", get_default())
