"""Administration of a database: create the tables, install and remove the trigger."""

from __future__ import annotations

from aioresult.abc import Store
from aioresult.errors import Unsupported
from aioresult.stores.sqlalchemy import triggers
from aioresult.stores.sqlalchemy.store import SQLStore


async def create_tables(store: Store) -> None:
    """Create the tables, columns and indexes that are missing, even if ``database_create_tables_at_setup`` is off.

    Tables of Celery up to 5.6 have no index for expiry; writers wait while it is being built.

    Raises:
        Unsupported: it is not a SQL store.
        AccessDenied: the account lacks the right.
        StoreUnavailable: the database cannot be reached.
    """
    await _sql(store).database.create()


async def install_trigger(store: Store, all_states: bool = False) -> bool:
    """Install the PostgreSQL trigger that announces what foreign writers store; return whether anything changed.

    Args:
        store: the store.
        all_states: announce every state and not only final ones, which costs a notification for each.

    Raises:
        Unsupported: it is not PostgreSQL.
        AccessDenied: the account lacks the right.
        StoreUnavailable: the database cannot be reached.
    """
    database = _sql(store).database
    if not (await database.ready()).layout.there:
        await database.create()
    return await database.run(lambda link, dialect: triggers.install(link, dialect, all_states))


async def uninstall_trigger(store: Store) -> bool:
    """Remove the trigger; return whether it existed. Raises as ``install_trigger``."""
    return await _sql(store).database.run(triggers.uninstall)


def _sql(store: Store) -> SQLStore:
    if not isinstance(store, SQLStore):
        raise Unsupported(f"{store.location} is no SQL database: it has no tables and no triggers")
    return store
