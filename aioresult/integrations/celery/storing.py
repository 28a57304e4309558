"""The part of the plugin that stores and reads: everything except waiting."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from celery.backends.base import Backend as CeleryBackend
from celery.result import result_from_tuple
from kombu.utils.functional import retry_over_time

from aioresult.codec.records import record_of
from aioresult.errors import EncodeError, SettingsError, StoreUnavailable
from aioresult.integrations.celery import internals
from aioresult.integrations.celery.configuration import backend_from_app
from aioresult.integrations.celery.metas import Meta, date_form_of, meta_of
from aioresult.integrations.celery.protocols import App, ResultNode
from aioresult.record import Record
from aioresult.states import PENDING
from aioresult.stores import opener
from aioresult.sync.portal import run_anywhere

logger = logging.getLogger("aioresult")

_KEY_VALUE: Final = ("redis", "valkey", "sentinel", "unix", "socket")
_SQL: Final = ("db", "database", "sqlalchemy", "sqlite", "postgresql", "mysql", "mariadb")


class StoringBackend(CeleryBackend):  # type: ignore[misc]  # Celery has no types
    """Stores and reads records and groups, and counts chords.

    Storing blocks the calling thread for one round trip, even in a thread that runs an event loop (a task may run one).
    While the store is unavailable, it is retried according to ``retry_policy`` of ``result_backend_transport_options``.

    Attributes:
        is_aioresult: marks this class and its subclasses, which know their URL.
    """

    is_aioresult = True

    def __init__(self, app: App, url: str | None = None, **options: Any) -> None:
        if not url or url.partition("://")[0] == "aioresult":
            raise SettingsError(
                "the result backend 'aioresult' needs a URL: result_backend='aioresult+redis://localhost:6379/0'"
            )
        family = url.partition("://")[0].partition("+")[0].lower()
        self.supports_autoexpire = self.supports_failure_expires = family.startswith(_KEY_VALUE)
        self.supports_result_compression = family not in _SQL
        self._async = backend_from_app(app, result_backend=url, result_backend_always_retry=False)
        self._location = opener(url, self._async.settings)().location
        self._date_form = date_form_of(self._location, self._async.settings.zone)
        super().__init__(app, url=url, **options)
        self.thread_safe = True
        transport_options = app.conf.get("result_backend_transport_options", {})
        self._policy = {**self.retry_policy, **transport_options.get("retry_policy", {})}
        if self.supports_autoexpire:
            self._count_chords_in_redis()

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL; by default only its host and database, since credentials may be anywhere in it."""
        if include_password:
            return f"aioresult+{self.url}"
        return f"aioresult+{self.url.partition('://')[0]}://{self._location.split('://', 1)[-1]}"

    def __reduce__(self) -> tuple[Any, ...]:
        """When unpickled, become the backend of the current application, so that no URL with a password is pickled."""
        return internals.current_backend, ()

    # --- tasks ---

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request, format_date=False
        )
        record = record_of(str(task_id), meta)
        try:
            retry_over_time(  # type: ignore[no-untyped-call]  # kombu has types in part
                lambda: run_anywhere(self._async._put_record, record),
                StoreUnavailable,
                errback=self._on_outage,
                **self._policy,
            )
        except EncodeError as exc:
            raise internals.EncodeError(str(exc)) from exc  # workers turn this kind of error into the task's failure
        return result

    def _on_outage(self, exc: Exception, intervals: Iterator[float], retries: int) -> float:
        pause = next(intervals)
        logger.error("storing a result failed, trying again in %g s (%d): %s", pause, retries + 1, exc)
        return pause

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Return whether an operation that raised ``exc`` may be repeated (with ``result_backend_always_retry``)."""
        return isinstance(exc, StoreUnavailable)

    def _get_task_meta_for(self, task_id: str) -> Meta:
        record = run_anywhere(self._async.fetch, str(task_id))
        if record.status == PENDING:
            return {"status": PENDING, "result": record.result}
        return self._meta(record)

    def _meta(self, record: Record) -> Meta:
        if record.error is not None:
            raise record.error
        return meta_of(record, self.exception_to_python, self._date_form)

    def task_result_exists(self, task_id: str) -> bool:
        """Return whether anything is stored under a task's id."""
        return bool(run_anywhere(self._async.fetch_many, [str(task_id)]))

    def _forget(self, task_id: str) -> None:
        run_anywhere(self._async.forget, str(task_id))

    def cleanup(self) -> None:
        """Delete expired results, if the store does not do that by itself."""
        run_anywhere(self._async.purge)

    # --- groups ---

    def _save_group(self, group_id: str, result: ResultNode) -> ResultNode:
        async def save() -> None:
            async with self._async._runtime.calling() as store:
                await store.put_group(str(group_id), result.as_tuple())

        run_anywhere(save)
        return result

    def _restore_group(self, group_id: str) -> Meta | None:
        group = run_anywhere(self._async.restore_group, str(group_id))
        if group is None:
            return None
        return {"task_id": group.id, "result": result_from_tuple(group.as_tuple(), self.app)}

    def _delete_group(self, group_id: str) -> None:
        run_anywhere(self._async.delete_group, str(group_id))

    # --- chords: except on Redis, Celery's polling task ``celery.chord_unlock`` counts them ---

    def _count_chords_in_redis(self) -> None:
        """Count chords by Celery's own code for Redis, if it can use this server."""
        from aioresult.integrations.celery.chords import native_chords

        chords = native_chords(self.app, self.url, self._async.settings, self.chord_error_from_stack)
        if chords is not None:
            self.apply_chord, self.set_chord_size = chords.apply_chord, chords.set_chord_size
            self.add_to_chord, self.on_chord_part_return = chords.add_to_chord, chords.on_chord_part_return
