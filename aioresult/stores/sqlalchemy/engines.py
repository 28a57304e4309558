"""Making SQLAlchemy's engines by the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any, Final

from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from aioresult.errors import SettingsError
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy.dialects import dialect_class
from aioresult.stores.sqlalchemy.link import Link, link_class
from aioresult.stores.sqlalchemy.options import Given, connect_args
from aioresult.stores.sqlalchemy.spellings import driver_called
from aioresult.stores.sqlalchemy.urls import Target

logger = logging.getLogger("aioresult")

_CONNECT_ARGS: Final = "setting database_engine_options['connect_args']"
_WITHOUT_MEANING: Final = frozenset(
    (
        "executemany_mode executemany_batch_page_size executemany_values_page_size use_batch_mode use_native_hstore "
        "use_native_unicode client_encoding server_side_cursors encoding convert_unicode implicit_returning strategy "
        "future"
    ).split()
)
"""Options of engines that synchronous drivers, or older versions of SQLAlchemy, need."""
_RECYCLE: Final = 3600
_BLOCKING_POOLS: Final = (QueuePool, SingletonThreadPool)


def make_engine(
    target: Target, settings: Settings, writes: Callable[[], bool], *, named: bool = True
) -> tuple[AsyncEngine, type[Link]]:
    """Return a new engine in autocommit mode, and the class that sends statements over its connections.

    Args:
        target: the database.
        settings: contain the options.
        writes: returns whether a new connection is for a store that writes.
        named: whether statements may have names, if the options say so.

    Raises:
        SettingsError: ``database_engine_options`` or ``database_engine_callback`` cannot be used.
    """
    chosen = dialect_class(target.family)
    own = chosen.engine_options(target, settings)
    given = _meaningful(settings.database_engine_options or {})
    if "poolclass" in given:
        own.pop("pool_size", None)
    driver = target.url.get_driver_name()
    wanted = connect_args(
        driver,
        Given(target.options, f"the URL {target.location}"),
        Given(given.pop("connect_args", None) or {}, _CONNECT_ARGS),
    )
    nameless = {} if named else chosen.nameless(target)
    try:
        arguments = driver_called(driver).finish({**own.pop("connect_args", {}), **wanted, **nameless})
    except SettingsError as exc:  # about several options together, from the URL and the settings
        raise SettingsError(f"the options for {target.location} cannot be used: {exc}") from exc
    options = {
        **own,
        **given,
        "pool_recycle": recycle_of(settings),
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,  # otherwise a ROLLBACK is sent when a connection goes back to its pool
        "hide_parameters": True,
    }
    try:
        engine = create_async_engine(target.url, connect_args=arguments, **options)
    except (TypeError, ValueError, ArgumentError) as exc:
        raise SettingsError(f"setting database_engine_options: {exc}") from exc
    chosen.prepare_engine(engine, writes)
    if settings.database_engine_callback is not None:
        _resolved(settings.database_engine_callback)(engine.sync_engine)
    return engine, link_class(engine.dialect.driver, wanted)


def recycle_of(settings: Settings) -> float:
    """Return after how many seconds a connection is replaced by a new one; -1 for never."""
    seconds: float = (settings.database_engine_options or {}).get("pool_recycle", _RECYCLE)
    return seconds


def _meaningful(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's options that apply to an asynchronous engine."""
    kept = dict(given)
    for name, value in given.items():
        if name in _WITHOUT_MEANING or (name == "poolclass" and value in _BLOCKING_POOLS):
            logger.debug("setting database_engine_options: %r means nothing here, and is left out", name)
            del kept[name]
    return kept


def _resolved(callback: Any) -> Callable[[Any], object]:
    """Return the function of ``database_engine_callback``, which may be a name: ``"module:function"`` or with a dot."""
    if isinstance(callback, str):
        try:
            callback = resolve_name(callback)
        except (ImportError, AttributeError, ValueError) as exc:
            raise SettingsError(f"setting database_engine_callback: cannot import {callback!r}") from exc
    if not callable(callback):
        raise SettingsError(f"setting database_engine_callback: {callback!r} cannot be called")
    found: Callable[[Any], object] = callback
    return found
