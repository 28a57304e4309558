"""Chords on Redis, by Celery's own machinery: its workers, with this plugin or without, count each other's parts."""

from __future__ import annotations

from typing import Any, Final, Protocol

from celery.backends.redis import RedisBackend, SentinelBackend

from aioresult.integrations.celery.edge import App


class ErrorHandler(Protocol):
    """The backend that stores the failure of a chord."""

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> Any:
        """Store that the chord ``callback`` failed, and call its error callbacks."""


class Chords(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """Celery's Redis backend, of which only the methods about chords are called."""

    def __init__(self, app: App, url: str, plugin: ErrorHandler) -> None:
        super().__init__(app=app, url=url)
        self._plugin = plugin

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> Any:
        """Leave the storing of failures to the plugin."""
        return self._plugin.chord_error_from_stack(callback, exc)


class SentinelChords(Chords, SentinelBackend):  # type: ignore[misc]  # Celery has no types
    """The same behind Sentinel."""


_SPELLINGS: Final = {"redis+unix": "socket", "redis+socket": "socket", "unix": "socket"}
"""Celery's names for a Unix socket's URL, once it has chosen the backend."""


def native_chords(app: App, url: str, plugin: ErrorHandler) -> Chords | None:
    """Return what counts chords in the Redis of ``url``; ``None`` for one that Celery cannot use, such as a cluster."""
    scheme, _, rest = url.partition("://")
    if scheme == "sentinel":
        return SentinelChords(app, url, plugin)
    if scheme == "rediss" and "ssl_cert_reqs" not in rest and not app.conf.get("redis_backend_use_ssl"):
        url = f"{url}{'&' if '?' in rest else '?'}ssl_cert_reqs=required"
    if scheme in _SPELLINGS:
        url = f"{_SPELLINGS[scheme]}://{rest.replace('?db=', '?virtual_host=')}"
    elif scheme not in ("redis", "rediss"):
        return None
    return Chords(app, url, plugin)
