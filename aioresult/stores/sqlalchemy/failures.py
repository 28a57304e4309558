"""What a driver's error means, and how to react. Nothing here waits."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aioresult.errors import AccessDenied, AioResultError, EncodeError, SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy.tls import UNENCRYPTED, advice_on_tls

_AUTHENTICATION: Final = {"28P01", "28000", 1045, 1698}
_NO_DATABASE: Final = {"3D000", 1049}
_NO_SCHEMA: Final = "3F000"
_NO_TABLE: Final = {"42P01", 1146}
_NO_COLUMN: Final = {"42703", 1054}
_FORBIDDEN: Final = {"42501", "25006", 1044, 1142, 1143, 1227, 1290, 1370, 1792}
_NAMELESS: Final = {"26000", "42P05"}
_STATEMENT_MODE: Final = "statement pooling mode"
_NO_PARAMETER: Final = ("unrecognized configuration parameter", "unsupported startup parameter")
"""What PostgreSQL and PgBouncer say of a parameter that they do not take."""
_CONFLICT: Final = {"40001", "40P01", 1213, 1205}
_NO_MORE_IDS: Final = {"2200H", "22003"}
"""The second one means that a column is too small for a number; of our numbers, this can only be ``id``."""
_UNUSABLE: Final = {"42P10", 1364}
_TOO_LONG: Final = {1406, 1366, 1267, 1270, 1271, 3988}
"""All but the first: characters that the column's character set lacks, stored or compared with."""
NOT_UTF8: Final = "decode to UTF-8"
"""The beginning of the error of Python's SQLite module for a text that is not UTF-8; the text follows."""
_STATE: Final = frozenset({"08", "53", "57", "58", "XX"})
"""Classes of SQLSTATE that concern the server's state or the connection, and not the request."""
_CUT: Final = {"57P01", "57P02", "57P03", "57P05"}
_LOST: Final = {2003, 2006, 2013, 2014, 1053, 1927, 4031}
"""SQLSTATE of PostgreSQL as text (libpq gives none for failed connections), error numbers of MySQL as numbers."""
_PREPARING: Final = (
    "behind this connection pooler, prepared statements of other clients are in the way: make the engine with "
    "connect_args={'statement_cache_size': 0, 'prepared_statement_cache_size': 0, "
    "'prepared_statement_name_func': str} for asyncpg, {'prepare_threshold': None} for psycopg, or hand over the URL"
)
_CREATE_SCHEMA: Final = (
    "create the schema, by `CREATE SCHEMA name`, or correct database_table_schemas or the account's search_path"
)
CREATE_TABLES: Final = (
    "let the tables be created (database_create_tables_at_setup=True), create them with `aioresult sql create`, or "
    "correct database_table_names and database_table_schemas"
)
"""Advice for a missing table."""
_WIDEN: Final = (
    "the table has no ids left for new rows: widen the column by `ALTER TABLE celery_taskmeta ALTER COLUMN id TYPE "
    "bigint`, and its sequence, if that is not one, by `ALTER SEQUENCE name AS bigint`; or begin with an empty table"
)
NO_TRANSACTIONS: Final = "this connection pooler takes no transactions: give a URL that leads to the server itself"


class Silence(TimeoutError):
    """Raised when an answer that takes milliseconds did not arrive within seconds."""


class Lost(ConnectionError):
    """Raised when the present connections, although alive, cannot be used any more."""


class MissingTable(SettingsError):
    """Raised when a statement needs a table that does not exist."""


UNREADABLE: Final = (EncodeError, ArithmeticError, UnicodeError)
"""The errors for a stored value that the driver cannot convert; for most drivers ``judge`` returns the first."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How to react to a driver's error.

    Attributes:
        error: what the caller gets, unless a repetition helps.
        repeat: whether the same call may succeed when repeated, for example because the connection was dead.
        conflict: whether it was a conflict with another writer, so that a short pause helps.
        reexamine: whether the tables have changed since the store was opened.
        distrust: whether the connection is lost, or does not answer, so that others may be dead as well.
        nameless: whether statements must have no name, since a pooler sends them to different server processes.
        alone: whether each statement must be alone, since a pooler supports no transactions.
    """

    error: AioResultError
    repeat: bool = False
    conflict: bool = False
    reexamine: bool = False
    distrust: bool = False
    nameless: bool = False
    alone: bool = False


def judge(exc: Exception, location: str) -> Verdict:
    """Return what ``exc``, raised by SQLAlchemy or a driver, means for the database at ``location``."""
    code, text = code_of(exc), text_of(exc)
    return (
        _of_connections(exc, code, text, location)
        or _of_tables(code, text, location)
        or _of_values(exc, code, text, location)
        or _by_class(exc, code, text, location)
    )


def _of_connections(exc: Exception, code: str | int | None, text: str, location: str) -> Verdict | None:
    if isinstance(exc, Lost):
        return Verdict(error=StoreUnavailable(f"{location}: {text}"), repeat=True, distrust=True)
    if code in _NAMELESS or (code == "08P01" and "prepared statement" in text):
        return Verdict(error=SettingsError(f"{location}: {text}; {_PREPARING}"), repeat=True, nameless=True)
    if _STATEMENT_MODE in text:
        return Verdict(error=SettingsError(f"{location}: {text}; {NO_TRANSACTIONS}"), repeat=True, alone=True)
    if any(words in text for words in _NO_PARAMETER):
        error = SettingsError(f"{location}: the server does not take an option of the URL or the settings: {text}")
        return Verdict(error=error)
    if code in _AUTHENTICATION or (code is None and "authentication failed" in text):
        return Verdict(error=StoreUnavailable(f"{location}: authentication failed: {text}{_advice_on_login(exc)}"))
    if code in _NO_DATABASE or (code is None and "database" in text and "does not exist" in text):
        return Verdict(error=StoreUnavailable(f"{location}: there is no such database: {text}"))
    return None


def _advice_on_login(exc: Exception) -> str:
    notes = getattr(_original(exc), "__notes__", ())
    return f"; check user and password{f'; {UNENCRYPTED}' if UNENCRYPTED in notes else ''}"


def _of_tables(code: str | int | None, text: str, location: str) -> Verdict | None:
    if code == _NO_SCHEMA:
        return Verdict(error=SettingsError(f"{location}: {text}; {_CREATE_SCHEMA}"), reexamine=True)
    if code in _NO_TABLE or (code is None and "no such table" in text):
        return Verdict(error=MissingTable(f"{location}: {text}; {CREATE_TABLES}"), repeat=True, reexamine=True)
    if code in _NO_COLUMN or (code is None and ("no such column" in text or "has no column" in text)):
        return Verdict(error=SettingsError(f"{location}: {text}; {CREATE_TABLES}"), repeat=True, reexamine=True)
    if code in _FORBIDDEN or (code is None and ("readonly database" in text or "permission denied" in text)):
        return Verdict(error=AccessDenied(f"{location}: the database account is not allowed to do this: {text}"))
    if code in _NO_MORE_IDS:
        return Verdict(error=SettingsError(f"{location}: {text}; {_WIDEN}"))
    return None


def _of_values(exc: Exception, code: str | int | None, text: str, location: str) -> Verdict | None:
    if code in _CONFLICT:
        error = StoreUnavailable(f"{location}: other writers were in the way again and again: {text}")
        return Verdict(error=error, repeat=True, conflict=True)
    if code in _TOO_LONG or isinstance(exc, DataError) or _class_of(code) == "22" or NOT_UTF8 in text:
        text = text.partition(" with text")[0]
        return Verdict(error=EncodeError(f"{location}: a value is not accepted: {text}"))
    return None


def _by_class(exc: Exception, code: str | int | None, text: str, location: str) -> Verdict:
    lost = (isinstance(exc, DBAPIError) and exc.connection_invalidated) or code in _LOST
    if isinstance(exc, PoolTimeout):
        return Verdict(error=StoreUnavailable(f"{location}: no connection became free in time: {text}"))
    unusable = code in _UNUSABLE or "not a database" in text or "ON CONFLICT" in text
    rejected = isinstance(exc, ProgrammingError | IntegrityError) or _class_of(code) in ("23", "42")
    if unusable or (rejected and not lost):
        error = SettingsError(f"{location}: the tables cannot be used as they are: {text}")
        return Verdict(error=error, repeat=True, reexamine=True)  # the tables may have been replaced meanwhile
    if isinstance(exc, TimeoutError):
        silence = isinstance(exc, Silence)
        return Verdict(error=StoreUnavailable(f"{location}: no answer in time"), repeat=silence, distrust=silence)
    if "locked" in text and code is None:
        said = f"{location}: another process has kept the database locked for longer than the busy timeout: {text}"
        return Verdict(error=StoreUnavailable(said))
    unwrapped = not isinstance(exc, SQLAlchemyError | OSError)  # asyncpg's error for a connection that was just lost
    cut = lost or (unwrapped and (code is None or code in _CUT or _class_of(code) == "08"))
    return Verdict(error=StoreUnavailable(f"{location}: {text}"), repeat=lost or unwrapped, distrust=cut)


def _class_of(code: str | int | None) -> str:
    """Return the class of a SQLSTATE: 22 for data, 23 for integrity, 42 for access and syntax."""
    return code[:2] if isinstance(code, str) else ""


def is_refusal(exc: Exception) -> bool:
    """Return whether the server refuses the request permanently."""
    code = code_of(exc)
    return code is not None and _class_of(code) not in _STATE and code not in _CONFLICT


def code_of(exc: Exception) -> str | int | None:
    """Return the SQLSTATE or the number of an error of SQLAlchemy or a driver."""
    error = _original(exc)
    first = error.args[0] if error.args else None
    if isinstance(first, int) and not isinstance(error, OSError):
        return first  # MySQL's number is more specific than the SQLSTATE of newer drivers
    state: Any = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state if isinstance(state, str) else None


def _original(exc: Exception) -> BaseException:
    return exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc


def text_of(exc: Exception) -> str:
    """Return the driver's own text, without the statement and its values, which SQLAlchemy adds."""
    error = _original(exc)
    if isinstance(error, SQLAlchemyError):
        return str(error.args[0]) if error.args else type(error).__name__
    words = str(error.args[-1]).partition("\nDETAIL:")[0] if error.args else ""  # DETAIL may quote the whole row
    words = words.partition(": ")[2] if words.startswith("<class ") else words
    return f"{words or type(error).__name__}{advice_on_tls(words)}"
