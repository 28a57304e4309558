"""Looking at what a database has, and creating what is missing. Runs inside ``AsyncConnection.run_sync``."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Dialect, Index, Sequence, Table, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateColumn

from aioresult.errors import SettingsError
from aioresult.stores.sqlalchemy.tables import COLUMNS, EXTENDED, Layout, Tables, full_name, undoubled

logger = logging.getLogger("aioresult")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One table as it is: its columns by name, as SQLAlchemy's inspector describes them."""

    columns: dict[str, Any]

    def fills_itself(self, name: str) -> bool:
        """Return whether the database finds a value for a column that an INSERT leaves out."""
        column = self.columns[name]
        return bool(column.get("default") or column.get("identity") or column.get("autoincrement") is True)


def examine(connection: Connection, tables: Tables, *, extended: bool) -> Layout:
    """Return what the database has of ``tables``.

    Raises:
        SettingsError: a table is missing, or lacks a column that nothing works without.
    """
    task = _look(connection, tables.task, ("id", "task_id", "status", "result", "date_done", "traceback"))
    group = _look(connection, tables.group, ("id", "taskset_id", "result", "date_done"))
    columns = tuple(name for name in COLUMNS if name in task.columns)
    return Layout(
        task=full_name(tables.task, connection.dialect),
        group=full_name(tables.group, connection.dialect),
        columns=columns,
        written=tuple(name for name in columns if extended or name not in EXTENDED),
        task_next_id=_next_id(connection, tables.task, task),
        group_next_id=_next_id(connection, tables.group, group),
    )


def lacks(connection: Connection, tables: Tables, *, indexes: bool) -> bool:
    """Return whether a table is missing, or, where ``indexes`` are asked for, one of these."""
    inspector = inspect(connection)
    if not all(inspector.has_table(table.name, schema=table.schema) for table in (tables.task, tables.group)):
        return True
    return indexes and bool(_missing_indexes(connection, tables))


def create(connection: Connection, tables: Tables, *, indexes: bool) -> None:
    """Create what is missing of ``tables``.

    Raises:
        DBAPIError: it is not allowed, or somebody else did the same at the same time.
    """
    tables.metadata.create_all(connection)
    for index in _missing_indexes(connection, tables) if indexes else ():
        index.create(connection)


def _missing_indexes(connection: Connection, tables: Tables) -> list[Index]:
    """Return the indexes whose column no index begins with, under whatever name: tables may have been renamed."""
    inspector = inspect(connection)
    missing: list[Index] = []
    for table in (tables.task, tables.group):
        there = {found["column_names"][0] for found in inspector.get_indexes(table.name, schema=table.schema)}
        missing += [index for index in table.indexes if index.columns[0].name not in there]
    return missing


def complete(connection: Connection, tables: Tables) -> None:
    """Add the columns that newer generations of Celery have to existing tables, as Celery does.

    Where that is not allowed they stay away: what they would have held is then not stored.
    """
    for table in (tables.task, tables.group):
        have = {column["name"] for column in inspect(connection).get_columns(table.name, schema=table.schema)}
        for column in table.columns:
            if column.name not in have and column.nullable:
                _add(connection, table, column)


def _add(connection: Connection, table: Table, column: Column[Any]) -> None:
    name = connection.dialect.identifier_preparer.format_table(table)
    definition = str(CreateColumn(column).compile(dialect=connection.dialect)).strip()
    statement = f"ALTER TABLE {name} ADD COLUMN {definition}"
    try:
        connection.exec_driver_sql(statement)
    except DBAPIError as exc:
        logger.warning(
            "table %s lacks the column %s, which could not be added (%s) and is left out; whoever may do it: %s",
            name,
            column.name,
            exc.orig,
            statement,
        )


def _look(connection: Connection, table: Table, needed: tuple[str, ...]) -> Found:
    inspector = inspect(connection)
    full_name = f"{table.schema}.{table.name}" if table.schema else table.name
    if not inspector.has_table(table.name, schema=table.schema):
        raise SettingsError(
            f"there is no table {full_name}; let it be created (database_create_tables_at_setup=True), create it with "
            f"`aioresult sql create`, or correct database_table_names and database_table_schemas"
        )
    columns = {column["name"]: column for column in inspector.get_columns(table.name, schema=table.schema)}
    missing = [name for name in needed if name not in columns]
    if missing:
        raise SettingsError(f"table {full_name} is none of Celery's: it has no column {', '.join(missing)}")
    return Found(columns=dict(columns))


def _next_id(connection: Connection, table: Table, found: Found) -> str | None:
    """Return the expression for a new row's id: Celery's sequence where SQLAlchemy makes one (PostgreSQL, MariaDB)."""
    sequence = table.c.id.default
    if not connection.dialect.supports_sequences or not isinstance(sequence, Sequence):
        return None
    if inspect(connection).has_sequence(sequence.name, schema=sequence.schema):
        return None if found.fills_itself("id") else _next_value(sequence, connection.dialect)
    if found.fills_itself("id"):
        return None
    raise SettingsError(f"table {table.fullname} needs the sequence {sequence.name}, which does not exist")


def _next_value(sequence: Sequence, dialect: Dialect) -> str:
    if dialect.name in ("mysql", "mariadb"):
        return undoubled(f"nextval({dialect.preparer(dialect).format_sequence(sequence)})", dialect)
    return undoubled(str(sequence.next_value().compile(dialect=dialect)), dialect)
