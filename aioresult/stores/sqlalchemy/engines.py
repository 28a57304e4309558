"""SQLAlchemy's engines, as the settings want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aioresult.errors import SettingsError
from aioresult.settings import Settings
from aioresult.stores.sqlalchemy.dialects.choice import dialect_class
from aioresult.stores.sqlalchemy.link import Link, link_class
from aioresult.stores.sqlalchemy.urls import Target


def make_engine(target: Target, settings: Settings) -> tuple[AsyncEngine, type[Link]]:
    """Return a new engine in autocommit mode, and the way to send statements over its connections.

    Raises:
        SettingsError: ``database_engine_options`` or ``database_engine_callback`` cannot be used.
    """
    chosen = dialect_class(target.family)
    own = chosen.engine_options(target, settings)
    given = dict(settings.database_engine_options or {})
    if "poolclass" in given:
        own.pop("pool_size", None)
    connect_args = {**own.pop("connect_args", {}), **target.connect_args, **given.pop("connect_args", {})}
    options = {"pool_recycle": 3600, **own, **given, "isolation_level": "AUTOCOMMIT", "hide_parameters": True}
    try:
        engine = create_async_engine(target.url, connect_args=connect_args, skip_autocommit_rollback=True, **options)
    except (TypeError, ValueError, ArgumentError) as exc:
        raise SettingsError(f"setting database_engine_options: {exc}") from exc
    chosen.prepare_engine(engine)
    if settings.database_engine_callback is not None:
        _resolved(settings.database_engine_callback)(engine.sync_engine)
    return engine, link_class(engine.dialect.driver, [*connect_args, *target.url.query])


def _resolved(callback: Any) -> Callable[[Any], object]:
    """Return the function that ``database_engine_callback`` is or names, as ``"module:function"`` or with a dot."""
    if isinstance(callback, str):
        module, _, name = callback.partition(":") if ":" in callback else callback.rpartition(".")
        try:
            callback = getattr(__import__(module, fromlist=[name]), name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise SettingsError(f"setting database_engine_callback: cannot import {callback!r}") from exc
    if not callable(callback):
        raise SettingsError(f"setting database_engine_callback: {callback!r} cannot be called")
    found: Callable[[Any], object] = callback
    return found
