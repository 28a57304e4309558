"""Examining the tables of a database, and creating missing ones. Runs inside ``AsyncConnection.run_sync``.

For reading, only the results' table is examined, and used as it is. Before writing, missing tables are created, and
tables that cannot be written to are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Column, Connection, Dialect, Index, Sequence, Table, inspect
from sqlalchemy.exc import DBAPIError, NoSuchTableError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, DDLElement

from aioresult.errors import AccessDenied, SettingsError
from aioresult.stores.sqlalchemy.failures import CREATE_TABLES, judge
from aioresult.stores.sqlalchemy.fitness import check_fitness, reading_of
from aioresult.stores.sqlalchemy.tables import COLUMNS, EXTENDED, Kind, Layout, Tables, full_name, quoted, undoubled

logger = logging.getLogger("aioresult")

_DISPENSABLE: Final = EXTENDED | {"children"}
"""Columns that tables of older versions lack."""


def examine(connection: Connection, tables: Tables, *, extended: bool, writes: Kind | None, binary: bool) -> Layout:
    """Return which of ``tables`` the database has, and how; without ``writes``, the results' table need not exist.

    ``extended``: the columns of ``result_extended`` are written. ``binary``: values are written as bytes, not text.

    Raises:
        SettingsError: a table lacks an indispensable column; or the table to write to does not exist, or cannot hold
            the values.
        AccessDenied: the account may not use the sequence of the table to write to.
    """
    dialect = connection.dialect
    task = _columns(connection, tables, "task") if writes != "group" else {}
    columns = tuple(name for name in COLUMNS if name in task)
    written = tuple(name for name in columns if extended or name not in EXTENDED)
    next_ids: dict[str, str | None] = {}
    if writes is not None:
        table = tables.of(writes)
        found = task if writes == "task" else _columns(connection, tables, writes)
        if not found:
            raise SettingsError(missing_table(table))
        if not columns and writes == "stream":  # producers lock their tasks' rows
            raise SettingsError(missing_table(tables.task))
        kinds = {name: found[name]["type"] for name in (written if writes == "task" else table.columns.keys())}
        check_fitness(connection, table, kinds, binary=binary)
        if writes in ("task", "group"):
            next_ids[f"{writes}_next_id"] = _next_id(connection, table, found["id"])
    readings = {name: reading_of(name, task[name]["type"], dialect) for name in columns}
    return Layout(
        task=full_name(tables.task, dialect),
        group=full_name(tables.group, dialect),
        stream=full_name(tables.stream, dialect),
        runner=full_name(tables.runner, dialect),
        columns=columns,
        written=written,
        expressions={name: expression for name, expression in readings.items() if expression is not None},
        **next_ids,
    )


def missing_table(table: Table) -> str:
    """Return the message about a table that does not exist, and may not be created."""
    return f"there is no table {table.fullname}; {CREATE_TABLES}"


def definition(table: Table, dialect: Dialect) -> str:
    """Return the statements that create ``table`` and its indexes."""
    statements: list[DDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
    return "; ".join(undoubled(" ".join(str(one.compile(dialect=dialect)).split()), dialect) for one in statements)


def lacks(connection: Connection, table: Table, *, indexes: bool = False) -> bool:
    """Return whether ``table`` is missing or, with ``indexes``, one of its indexes."""
    if not inspect(connection).has_table(table.name, schema=table.schema):
        return True
    return indexes and bool(_missing_indexes(connection, table))


def create(connection: Connection, table: Table, *, indexes: bool) -> None:
    """Create ``table``, or its missing indexes.

    Raises:
        DBAPIError: it is not allowed, or another process did the same at the same time.
    """
    table.metadata.create_all(connection, tables=[table])
    for index in _missing_indexes(connection, table) if indexes else ():
        index.create(connection)


def _missing_indexes(connection: Connection, table: Table) -> list[Index]:
    """Return the indexes whose column is not the first of any index. Names do not count: tables may be renamed."""
    found = inspect(connection).get_indexes(table.name, schema=table.schema)
    there = {index["column_names"][0] for index in found}
    return [index for index in table.indexes if index.columns[0].name not in there]


def complete(connection: Connection, table: Table) -> None:
    """Add the columns of newer versions of Celery to an existing table, as Celery does.

    If that is not allowed, the columns stay missing, and their values are not stored.
    """
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


def _columns(connection: Connection, tables: Tables, kind: Kind) -> Mapping[str, Any]:
    """Return the present columns of one table, by name, as SQLAlchemy describes them; none without a table."""
    table, inspector = tables.of(kind), inspect(connection)
    if table.schema and not inspector.has_schema(table.schema):
        name = quoted(table.schema, connection.dialect)
        raise SettingsError(
            f"there is no schema {table.schema}; create it, by `CREATE SCHEMA {name}`, or correct "
            f"database_table_schemas"
        )
    try:
        columns = {column["name"]: column for column in inspector.get_columns(table.name, schema=table.schema)}
    except NoSuchTableError:
        return {}
    if not columns:
        return {}  # on SQLite: the table was created between SQLAlchemy's two questions, for columns and for the table
    missing = [column.name for column in table.columns if column.name not in columns.keys() | _DISPENSABLE]
    if missing:
        whose = {"stream": "was not made for streams", "runner": "was not made for leases"}.get(
            kind, "is none of Celery's"
        )
        raise SettingsError(f"table {table.fullname} has no column {', '.join(missing)}: it {whose}")
    return columns


def _next_id(connection: Connection, table: Table, column: Mapping[str, Any]) -> str | None:
    """Return the expression for a new row's id: Celery's sequence, if SQLAlchemy makes one (PostgreSQL, MariaDB)."""
    fills_itself = bool(column.get("default") or column.get("identity") or column.get("autoincrement") is True)
    sequence = table.c.id.default
    if fills_itself or not connection.dialect.supports_sequences or not isinstance(sequence, Sequence):
        return None
    dialect = connection.dialect
    name = undoubled(dialect.preparer(dialect).format_sequence(sequence), dialect)
    if inspect(connection).has_sequence(sequence.name, schema=sequence.schema):
        if dialect.name in ("mysql", "mariadb"):
            return f"nextval({name})"
        return undoubled(str(sequence.next_value().compile(dialect=dialect)), dialect)
    if _is_hidden(connection, sequence):
        raise AccessDenied(
            f"table {table.fullname} needs the sequence {sequence.name}, which this database account may not use: "
            f"GRANT SELECT, INSERT ON {name} TO it"
        )
    raise SettingsError(f"table {table.fullname} needs the sequence {sequence.name}, which does not exist")


def _is_hidden(connection: Connection, sequence: Sequence) -> bool:
    """Return whether the account may not use a sequence: MariaDB shows no object to an account without rights on it."""
    dialect = connection.dialect
    if dialect.name == "postgresql":
        return False
    try:
        connection.exec_driver_sql(f"SELECT 1 FROM {dialect.preparer(dialect).format_sequence(sequence)} LIMIT 0")
    except DBAPIError as exc:
        return isinstance(judge(exc, "").error, AccessDenied)
    return False
