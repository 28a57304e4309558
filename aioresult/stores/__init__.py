"""Finding the store for a URL or a client; drivers are imported only when their store is used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name
from typing import Final
from weakref import WeakKeyDictionary, ref

from aioresult.abc import Store
from aioresult.errors import SettingsError, UnknownStore, missing_driver
from aioresult.settings import Settings
from aioresult.stores.foreign import why_not

_REDIS: Final = ("aioresult.stores.redis:RedisStore", "redis")
_CLUSTER: Final = ("aioresult.stores.redis.cluster:RedisClusterStore", "redis")
_MONGODB: Final = ("aioresult.stores.mongodb:MongoStore", "mongodb")
_SQL: Final = ("aioresult.stores.sqlalchemy:SQLStore", "sqlalchemy")

_BUILT_IN: Final[dict[str, tuple[str, str | None]]] = {
    "memory": ("aioresult.stores.memory:MemoryStore", None),
    "disabled": ("aioresult.stores.disabled:DisabledStore", None),
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "unix", "socket", "sentinel"), _REDIS),
    "mongodb": _MONGODB,
    "sqlite": _SQL,
    **dict.fromkeys(("postgresql", "postgres"), (_SQL[0], "postgresql")),
    **dict.fromkeys(("mysql", "mariadb"), (_SQL[0], "mysql")),
}
_BUILT_IN_FULL: Final = {f"{kind}+cluster": _CLUSTER for kind in ("redis", "rediss", "valkey", "valkeys")}
_SPELLINGS: Final = (
    *("redis+sentinel", "redis+unix", "mongodb+srv", "mongodb+motor", "sqlite+aiosqlite"),
    *("postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "mysql+aiomysql"),
)
"""Schemes that say more than the kind of store. They are listed in the error for a mistyped one."""
_CELERYS_PREFIXES: Final = ("aioresult+", "db+", "sqlalchemy+", "database+")
_CLIENTS: Final = {
    "redis": _REDIS,
    "redis.RedisCluster": _CLUSTER,
    "pymongo": _MONGODB,
    "motor": _MONGODB,
    "sqlalchemy": _SQL,
}
_USERS: Final[WeakKeyDictionary[Store, tuple[int, ref[asyncio.AbstractEventLoop]]]] = WeakKeyDictionary()
"""The process and the event loop that use each ready-made store."""


def opener(url_or_store: object, settings: Settings) -> Callable[[], Store]:
    """Return a function that makes a store for one event loop from a URL, a driver's client, or a ready ``Store``.

    Raises:
        SettingsError: the URL is not understood; ``UnknownStore`` if its scheme is not known.
        MissingDriver: the store's driver is not installed.
    """
    if isinstance(url_or_store, Store):
        return partial(_for_this_loop, url_or_store)
    if isinstance(url_or_store, str):
        return _by_url(url_or_store, settings)
    module = type(url_or_store).__module__.partition(".")[0]
    target = _CLIENTS.get(f"{module}.{type(url_or_store).__name__}") or _CLIENTS.get(module)
    if target is None:
        modules = {base.__module__.partition(".")[0] for base in type(url_or_store).__mro__}
        hint = "; a Celery application is read by backend_from_app(app) of aioresult.integrations.celery"
        raise SettingsError(
            "expected a URL, a Store, or a client of redis-py, PyMongo, Motor or SQLAlchemy, "
            f"not {type(url_or_store).__name__}{hint if 'celery' in modules else ''}"
        )
    return partial(_load(*target).from_client, url_or_store, settings)


def _for_this_loop(store: Store) -> Store:
    """Return ``store`` itself in the loop that uses it first; in other loops, and in a forked child, another one."""
    user = os.getpid(), ref(asyncio.get_running_loop())
    return store if not store.loop_bound or _USERS.setdefault(store, user) == user else store.another()


def _by_url(url: str, settings: Settings) -> Callable[[], Store]:
    for prefix in _CELERYS_PREFIXES:
        url = url.removeprefix(prefix)
    scheme, separator, _ = url.partition("://")
    if not separator and (reason := why_not(url)):  # Celery accepts some backends by a name alone
        raise UnknownStore(f"{url.partition('+')[0]!r} is no store: {reason}")
    if not separator or "@" in scheme:
        raise SettingsError(
            "a store's URL looks like 'redis://localhost:6379/0' or 'sqlite:///results.db'; there is no '://' in the "
            "one given"
        )
    store_class = _store_class(scheme.lower())
    probe = store_class(url, settings)
    if not store_class.loop_bound:
        return lambda: probe
    return partial(store_class, url, settings)


def _store_class(scheme: str) -> type[Store]:
    family = scheme.partition("+")[0]
    target = _BUILT_IN_FULL.get(scheme) or _BUILT_IN.get(family)
    if target is not None:
        return _load(*target)
    import difflib  # needed only after a mistake
    from importlib.metadata import entry_points  # its import takes a third of the time of importing this package

    added = {point.name: point for point in entry_points(group="aioresult.stores")}
    point = added.get(scheme) or added.get(family)
    if point is None:
        known = sorted({*_BUILT_IN, *_BUILT_IN_FULL, *_SPELLINGS, *added})
        if why := why_not(scheme):
            reason = f": {why}"
        elif nearest := difflib.get_close_matches(scheme, known, n=1, cutoff=0.75):
            reason = f"; did you mean '{nearest[0]}://'?"
        else:
            reason = f"; known are {', '.join(known)}"
        raise UnknownStore(f"no store for URLs that begin with '{scheme}://'{reason}")
    loaded: type[Store] = point.load()
    return loaded


def _load(target: str, extra: str | None) -> type[Store]:
    try:
        loaded: type[Store] = resolve_name(target)
    except ImportError as exc:
        package = exc.name or ("greenlet" if "greenlet" in str(exc) else None)  # SQLAlchemy names it only in the text
        if extra is None or package is None or package.partition(".")[0] == "aioresult":
            raise
        raise missing_driver(package, "this store", extra) from exc
    return loaded
