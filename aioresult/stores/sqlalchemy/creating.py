"""Creating missing tables, while other processes may be doing the same."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Final, get_args

from sqlalchemy.exc import DBAPIError

from aioresult.errors import AccessDenied
from aioresult.stores.sqlalchemy import schema
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import judge
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.tables import Kind, Tables

logger = logging.getLogger("aioresult")

_CELERYS: Final[frozenset[Kind]] = frozenset({"task", "group"})
_ATTEMPTS: Final = 10


async def create_all(link: Link, tables: Tables, chosen: type[Dialect]) -> None:
    """Create all missing tables, columns and indexes.

    Raises:
        DBAPIError: the account may not do so.
    """
    for kind in get_args(Kind):
        await _create(link, tables, kind, chosen, indexes=True)
        await link.connection.run_sync(schema.complete, tables.of(kind))


async def create_for(link: Link, tables: Tables, writes: Kind, chosen: type[Dialect]) -> None:
    """Create the table ``writes``, or what it lacks; also Celery's other table, if neither exists yet.

    Raises:
        DBAPIError: the table is missing, and may not be created.
        AccessDenied: the same for a table that only this library creates; says how another account can do it.
    """
    needed: tuple[Kind, ...] = ("task", "stream") if writes == "stream" else (writes,)
    for kind in needed:
        try:
            created = await _create(link, tables, kind, chosen)
        except DBAPIError as exc:
            table = tables.of(kind)
            if kind in _CELERYS or not isinstance(judge(exc, table.fullname).error, AccessDenied):
                raise
            whose = {"stream": "streams need", "runner": "leases of runners need"}[kind]
            raise AccessDenied(
                f"{whose} the table {table.fullname}, which the database account is not allowed to create "
                f"({exc.orig}); results work without it; whoever may do it: `aioresult sql create`, or "
                f"{schema.definition(table, link.connection.dialect)}"
            ) from exc
        if not created:
            await link.connection.run_sync(schema.complete, tables.of(kind))
        elif kind in _CELERYS:
            for other in _CELERYS - {kind}:
                await create_quietly(link, tables, other, chosen)


async def create_quietly(link: Link, tables: Tables, kind: Kind, chosen: type[Dialect]) -> None:
    """Create a table if it is missing and may be created; otherwise do nothing, since it may never be needed."""
    try:
        await _create(link, tables, kind, chosen)
    except DBAPIError as exc:
        logger.debug("table %s is not created: %s", tables.of(kind).fullname, exc.orig)


async def _create(link: Link, tables: Tables, kind: Kind, chosen: type[Dialect], *, indexes: bool = False) -> bool:
    """Create one table if it is missing, and return whether it was created here.

    Indexes are added to tables only on an operator's command, because writers must wait meanwhile.
    """
    table = tables.of(kind)
    attempt, created = 0, False
    while await link.connection.run_sync(schema.lacks, table, indexes=indexes):
        try:
            async with link.transaction(chosen.begin) if link.together else nullcontext():
                await chosen.lock_for_creating(link)
                await link.connection.run_sync(schema.create, table, indexes=indexes)
            created = True
        except DBAPIError as exc:  # perhaps another process was faster: the next check finds its table
            attempt += 1
            if attempt == _ATTEMPTS or link.connection.invalidated or judge(exc, "").alone:
                raise
    return created
