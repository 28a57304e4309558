"""The part of the blocking backend that stores and reads: everything except making results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from aioresult.backend import Backend, as_backend
from aioresult.record import Record
from aioresult.runtime import Stats
from aioresult.settings import Settings
from aioresult.sync.mirrors import blocking
from aioresult.sync.portal import run


class StoringBackend:
    """The part of a backend that results need: storing and reading."""

    def __init__(self, url_or_store: object = None, **settings: Any) -> None:
        self._async = as_backend(url_or_store, **settings)

    @property
    def mirrored(self) -> Backend:
        """The asynchronous backend whose methods this calls."""
        return self._async

    @property
    def settings(self) -> Settings:
        """The checked settings."""
        return self._async.settings

    # --- writing: each returns whether it wrote ---

    store_result = blocking(Backend.store_result)
    mark_as_started = blocking(Backend.mark_as_started)
    mark_as_done = blocking(Backend.mark_as_done)
    mark_as_failure = blocking(Backend.mark_as_failure)
    mark_as_retry = blocking(Backend.mark_as_retry)
    mark_as_revoked = blocking(Backend.mark_as_revoked)
    update_state = blocking(Backend.update_state)
    append = blocking(Backend.append)
    forget = blocking(Backend.forget)

    # --- reading and managing ---

    fetch = blocking(Backend.fetch)
    delete_group = blocking(Backend.delete_group)
    purge = blocking(Backend.purge)
    ping = blocking(Backend.ping)
    capabilities = blocking(Backend.capabilities)

    def fetch_many(self, ids: Iterable[str]) -> dict[str, Record]:
        """Return the records of those of ``ids`` that have one, in one read; unreadable ones have an ``error``."""
        return run(self._async.fetch_many, list(ids))  # iterated in this thread, since the caller's iterable may block

    def stats(self) -> Stats:
        """Return the counters of all blocking callers of this process together."""

        async def within_the_portal() -> Stats:
            return self._async.stats()

        return run(within_the_portal)

    def close(self) -> None:
        """Close what blocking callers have opened; callers that still wait get an error."""
        run(self._async.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._async)

    def __eq__(self, other: object) -> bool:
        return self._async is other._async if isinstance(other, StoringBackend) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._async)
