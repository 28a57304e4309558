"""The trigger that announces, on PostgreSQL, results of foreign writers such as Celery's workers.

Statements of this package announce their rows themselves. The trigger then repeats the same notification in the same
transaction, and the server sends it once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aioresult.errors import AccessDenied, Unsupported
from aioresult.stores.sqlalchemy.dialects.port import READY_LIST, Dialect
from aioresult.stores.sqlalchemy.dialects.postgresql import PostgreSQLDialect, channel_expression, lock_key
from aioresult.stores.sqlalchemy.failures import code_of
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.tables import in_text, undoubled

_NAME: Final = "aioresult_notify"
_VERSION: Final = "aioresult 1"
_ALWAYS: Final = "A"
_ENABLED: Final = frozenset({"O", _ALWAYS})
"""PostgreSQL's marks for triggers that fire in ordinary sessions: only in these, or in replicating ones as well."""
_READY: Final = "ready states"
_ALL: Final = "all states"
ANNOUNCING: Final = frozenset({_READY, _ALL})
"""What ``describe`` returns if results of foreign writers are announced."""
_FORBIDDEN: Final = frozenset({"42501", "25006"})
"""SQLSTATE of a missing right, and of an account or server that only reads."""

_LOOK: Final = text(
    "SELECT obj_description(pg_trigger.oid, 'pg_trigger'), CAST(tgenabled AS text), "
    "tgargs = convert_to(CAST(:prefix AS text), 'UTF8') || decode('00', 'hex') FROM pg_trigger "
    f"WHERE tgrelid = to_regclass(CAST(:table AS text)) AND tgname = '{_NAME}'"
)
_USERS: Final = text(
    "SELECT count(*) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
    "JOIN pg_namespace ON pg_namespace.oid = pronamespace "
    f"WHERE nspname = :schema AND proname = '{_NAME}'"
)


async def describe(link: Link, dialect: Dialect) -> str:
    """Return which states the trigger announces, ``"ready states"`` or ``"all states"``, or why it announces none."""
    return (await _look(link, dialect))[0]


async def _look(link: Link, dialect: Dialect) -> tuple[str, bool]:
    """Return the same as ``describe``, and whether replicating sessions announce, too."""
    postgresql = _only_postgresql(dialect)
    found = await link.rows(_LOOK, {"table": dialect.layout.task, "prefix": postgresql.channel_prefix})
    if not found:
        return "not installed", False
    comment, enabled, same_channels = found[0]
    version, _, states = str(comment).partition(", ")
    if version != _VERSION or states not in ANNOUNCING:
        return "installed by something else", False
    if not same_channels:
        return "installed before the table was renamed", False
    return (states if enabled in _ENABLED else "disabled"), enabled == _ALWAYS


async def install(link: Link, dialect: Dialect, all_states: bool | None = None) -> bool:
    """Install the trigger for ``all_states`` or only for final ones; return whether anything was changed.

    With ``None``, nothing is done if results are announced already, with or without progress.

    Raises:
        Unsupported: it is not PostgreSQL.
        AccessDenied: the account lacks the right.
    """
    wanted = _ALL if all_states else _READY
    enough = list(product(ANNOUNCING, (True, False))) if all_states is None else [(wanted, True)]
    if await _look(link, dialect) in enough:
        return False
    async with _changing(link, dialect, "install-trigger"):
        if await _look(link, dialect) in enough:  # another process was faster
            return False
        for statement in _statements(link, _only_postgresql(dialect), wanted):
            await link.run(text(in_text(statement)))
    return True


def _statements(link: Link, dialect: PostgreSQLDialect, states: str) -> list[str]:
    """Return the statements that install a trigger for ``states``, and replace an existing one."""
    table, function = dialect.layout.task, _function(link, dialect)
    channel = channel_expression("TG_ARGV[0]", "NEW.task_id")
    condition = "NEW.task_id IS NOT NULL" + ("" if states == _ALL else f" AND NEW.status IN ({READY_LIST})")
    define = (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM pg_catalog.pg_notify({channel}, NEW.task_id); RETURN NULL; END $$"
    )
    drop = f"DROP TRIGGER IF EXISTS {_NAME} ON {table}"
    create = (
        f"CREATE TRIGGER {_NAME} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({condition}) "
        f"EXECUTE FUNCTION {function}('{dialect.channel_prefix}')"
    )
    always = f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {_NAME}"  # in replicating sessions, too
    return [define, drop, create, always, f"COMMENT ON TRIGGER {_NAME} ON {table} IS '{_VERSION}, {states}'"]


async def uninstall(link: Link, dialect: Dialect) -> bool:
    """Remove the trigger, and its function unless another table uses it; return whether the trigger existed.

    Raises:
        Unsupported: it is not PostgreSQL.
        AccessDenied: the account lacks the right.
    """
    _only_postgresql(dialect)
    table = dialect.layout.task
    there = await describe(link, dialect) != "not installed"
    async with _changing(link, dialect, "uninstall-trigger"):
        await link.run(text(in_text(f"DROP TRIGGER IF EXISTS {_NAME} ON {table}")))
        if not await link.value(_USERS, {"schema": dialect.facts["schema"]}):
            await link.run(text(in_text(f"DROP FUNCTION IF EXISTS {_function(link, dialect)}()")))
    return there


@asynccontextmanager
async def _changing(link: Link, dialect: Dialect, command: str) -> AsyncIterator[None]:
    """Execute the statements inside as one transaction, one process at a time; raise an error if a right is missing."""
    try:
        async with link.transaction():
            await link.run(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("trigger")})
            yield
    except DBAPIError as exc:
        if code_of(exc) not in _FORBIDDEN:
            raise
        schema, table = dialect.facts["schema"], dialect.facts["table"]
        raise AccessDenied(
            f"the database account is not allowed to install or remove the trigger: that takes the owner of the table "
            f"{schema}.{table}, with the right CREATE on the schema {schema}; "
            f"let the owner run `aioresult sql {command}` once"
        ) from exc


def _only_postgresql(dialect: Dialect) -> PostgreSQLDialect:
    if not isinstance(dialect, PostgreSQLDialect):
        raise Unsupported(
            "only PostgreSQL has this trigger; on other databases, what Celery's workers store is polled for"
        )
    return dialect


def _function(link: Link, dialect: Dialect) -> str:
    sqlalchemys = link.connection.dialect
    return f"{undoubled(sqlalchemys.identifier_preparer.quote(dialect.facts['schema']), sqlalchemys)}.{_NAME}"
