"""Chords on Redis, counted by Celery's own code: workers with and without this plugin can share a chord."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from celery.backends.redis import RedisBackend, SentinelBackend

from aioresult.integrations.celery.protocols import App
from aioresult.settings import Settings
from aioresult.stores.redis.sentinel import SentinelAddress
from aioresult.stores.redis.urls import as_redis, from_url


class Chords(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """Celery's Redis backend. Only its methods about chords are called.

    Args:
        app: the application.
        url: in Celery's spelling.
        fail: stores that a chord has failed, and calls its error callbacks.
    """

    def __init__(self, app: App, url: str, fail: Callable[..., Any]) -> None:
        super().__init__(app=app, url=url)
        self.chord_error_from_stack = fail


class SentinelChords(Chords, SentinelBackend):  # type: ignore[misc]  # Celery has no types
    """The same behind Sentinel, however the URL is spelled."""

    def __init__(self, app: App, address: SentinelAddress, fail: Callable[..., Any]) -> None:
        self.__dict__["_transport_options"] = {  # replaces the application's own options, and contains them
            **app.conf.get("result_backend_transport_options", {}),
            "master_name": address.service,
            "min_other_sentinels": address.min_other_sentinels,
            "sentinel_kwargs": address.sentinel_options,
        }
        super().__init__(app, _spelled_for_celery(address), fail)
        if address.encrypted:  # Celery has no URL for TLS here
            tls = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
            self.connparams.update({"ssl_cert_reqs": "required", **tls, "connection_class": self.connection_class_ssl})


def _spelled_for_celery(address: SentinelAddress) -> str:
    """Return Celery's form: one URL for each sentinel; user, password and database are in the first."""
    user, password = (quote(str(address.options.get(name) or ""), safe="") for name in ("username", "password"))
    credentials = f"{user}:{password}@" if user or password else ""
    places = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in address.sentinels]
    return ";".join(f"sentinel://{credentials}{place}/{address.options.get('db') or 0}" for place in places)


_UNIX: Final = ("redis+unix", "redis+socket", "unix", "socket")
"""Schemes of a Unix socket's URL; Celery's Redis backend knows the last one."""


def native_chords(app: App, url: str, settings: Settings, fail: Callable[..., Any]) -> Chords | None:
    """Return the object that counts chords in this Redis; ``None`` if Celery cannot use it, such as a cluster."""
    scheme, _, rest = url.partition("://")
    scheme = as_redis(scheme)
    if "sentinel" in scheme.split("+"):
        address = from_url(url, settings)
        assert isinstance(address, SentinelAddress)  # noqa: S101  (by its scheme)
        return SentinelChords(app, address, fail)
    if scheme == "rediss" and "ssl_cert_reqs" not in rest and not app.conf.get("redis_backend_use_ssl"):
        rest = f"{rest}{'&' if '?' in rest else '?'}ssl_cert_reqs=required"
    if scheme in _UNIX:
        scheme, rest = "socket", rest.replace("?db=", "?virtual_host=")
    elif scheme not in ("redis", "rediss"):
        return None
    return Chords(app, f"{scheme}://{rest}", fail)
