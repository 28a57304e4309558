"""The commands for SQL databases: create tables, install and remove PostgreSQL's trigger."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Annotated

import typer

from aioresult.abc import Store
from aioresult.cli.exits import Exit
from aioresult.cli.output import print_line, to_json
from aioresult.cli.session import Session, with_session
from aioresult.errors import missing_driver

app = typer.Typer(help="Prepare a SQL database.")


async def create(session: Session) -> Exit:
    """Create the tables, columns and indexes that are missing.

    While an index is built on a table that is there already, those who store results have to wait.
    """

    async def change(admin: ModuleType, store: Store) -> bool:
        await admin.create_tables(store)
        return True

    return await _change(session, change, "tables_ready", ("the tables are there",) * 2)


async def install_trigger(
    session: Session,
    all_states: Annotated[bool, typer.Option("--all-states", help="Announce every state, not only final ones.")] = (
        False
    ),
) -> Exit:
    """Install the PostgreSQL trigger that announces what Celery's workers store."""
    texts = ("the trigger is installed", "the trigger was installed already")
    return await _change(session, lambda admin, store: admin.install_trigger(store, all_states), "changed", texts)


async def uninstall_trigger(session: Session) -> Exit:
    """Remove the PostgreSQL trigger."""
    texts = ("the trigger is removed", "there was no trigger")
    return await _change(session, lambda admin, store: admin.uninstall_trigger(store), "changed", texts)


for command in (create, install_trigger, uninstall_trigger):
    app.command()(with_session(command))


def _admin() -> ModuleType:
    """Return the module that administers SQL stores, which needs their driver."""
    try:
        return importlib.import_module("aioresult.stores.sqlalchemy.admin")
    except ModuleNotFoundError as exc:
        raise missing_driver(str(exc.name), "this store", "sqlalchemy") from exc


async def _change(
    session: Session, change: Callable[[ModuleType, Store], Awaitable[bool]], key: str, texts: tuple[str, str]
) -> Exit:
    async with session.backend() as backend:
        changed = await change(_admin(), backend._runtime.store)
        print_line(to_json({key: changed}) if session.json else texts[0 if changed else 1])
        return Exit.OK
