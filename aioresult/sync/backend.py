"""``aioresult.Backend`` for blocking callers: the same methods without ``await``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aioresult import backend as asynchronous
from aioresult.sync import groups
from aioresult.sync import result as results
from aioresult.sync.mirrors import mirror
from aioresult.sync.result import T
from aioresult.sync.storing import StoringBackend
from aioresult.sync.tree import Result


class Backend(StoringBackend):
    """Where results are stored and awaited; see ``aioresult.Backend`` for the arguments and for every method.

    An ``aioresult.Backend`` is accepted too, and is then shared; its blocking callers have their own connections.
    """

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

    def restore_group(self, group_id: str) -> groups.GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved."""
        return groups.GroupResult.restore(group_id, self)

    def save_group(self, group: groups.GroupResult) -> None:
        """Save ``group``, so that ``restore_group`` gives it back."""
        group.save(self)


mirror.register(asynchronous.Backend, Backend)


def configure(url_or_store: object = None, **settings: Any) -> Backend:
    """Make the backend that this process uses where none is given, in blocking and asynchronous code, and return it.

    An existing backend is accepted too, a blocking or an asynchronous one.
    """
    given = url_or_store.mirrored if isinstance(url_or_store, StoringBackend) else url_or_store
    return Backend(asynchronous.configure(given, **settings))


def get_backend() -> Backend:
    """Return the configured backend; without one, the backend of the environment variable ``AIORESULT_URL``."""
    return Backend(asynchronous.get_backend())
