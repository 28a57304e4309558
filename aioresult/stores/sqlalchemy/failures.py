"""What a driver's error means, and what can be done about it. Nothing here waits for anything."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aioresult.errors import AioResultError, EncodeError, SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy.tls import advice_on_tls

_AUTHENTICATION: Final = {"28P01", "28000", 1045, 1044, 1698}
_NO_DATABASE: Final = {"3D000", 1049}
_NO_TABLE: Final = {"42P01", "3F000", 1146}
_NO_COLUMN: Final = {"42703", 1054}
_FORBIDDEN: Final = {"42501", "25006", 1142, 1143, 1227, 1290, 1370}
_CONFLICT: Final = {"40001", "40P01", 1213, 1205}
_UNUSABLE: Final = {"42P10", 1364}
_TOO_LONG: Final = {1406, 1366}
NOT_UTF8: Final = "decode to UTF-8"
"""What Python's module for SQLite says of a text that is none, before it quotes it."""
_CUT: Final = {"57P01", "57P02", "57P03", "57P05"}
_LOST: Final = {2003, 2006, 2013, 2014, 1053, 1927, 4031}
"""SQLSTATE of PostgreSQL as text (libpq tells none of failed connections), error numbers of MySQL as numbers."""


class Silence(TimeoutError):
    """Raised where an answer that takes milliseconds did not come in seconds."""


class MissingTable(SettingsError):
    """Raised where a statement needs a table that does not exist."""


UNREADABLE: Final = (EncodeError, ArithmeticError, UnicodeError)
"""What comes of reading a value that the driver cannot make anything of; ``judge`` says the first of most drivers'."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to make of a driver's error.

    Attributes:
        error: what the caller gets unless a repetition helps.
        repeat: whether the same call may succeed if made again: the connection was dead, say.
        conflict: whether another writer was in the way, so that pausing for a moment is of use.
        reexamine: whether the tables are not as they were when the store was opened.
        distrust: whether the connection is lost, or does not answer, so that others may be in the same state.
    """

    error: AioResultError
    repeat: bool = False
    conflict: bool = False
    reexamine: bool = False
    distrust: bool = False


def judge(exc: Exception, location: str) -> Verdict:
    """Return what ``exc``, raised by SQLAlchemy or a driver, means for the database at ``location``."""
    original = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    code = _code(original)
    text = _text(original)
    if code in _AUTHENTICATION or (code is None and "authentication failed" in text):
        return Verdict(error=StoreUnavailable(f"{location}: authentication failed: {text}"))
    if code in _NO_DATABASE or (code is None and "database" in text and "does not exist" in text):
        return Verdict(error=StoreUnavailable(f"{location}: there is no such database: {text}"))
    if code in _NO_TABLE or (code is None and "no such table" in text):
        return Verdict(error=MissingTable(_missing(location, text)), repeat=True, reexamine=True)
    if code in _NO_COLUMN or (code is None and ("no such column" in text or "has no column" in text)):
        return Verdict(error=SettingsError(_missing(location, text)), repeat=True, reexamine=True)
    if code in _FORBIDDEN or "readonly database" in text:
        return Verdict(error=SettingsError(f"{location}: the database account is not allowed to do this: {text}"))
    if code in _CONFLICT:
        error = StoreUnavailable(f"{location}: other writers were in the way again and again: {text}")
        return Verdict(error=error, repeat=True, conflict=True)
    if code in _TOO_LONG or isinstance(exc, DataError) or _class_of(code) == "22" or NOT_UTF8 in text:
        text = text.partition(" with text")[0]
        return Verdict(error=EncodeError(f"{location}: the database does not take a value: {text}"))
    return _by_class(exc, code, text, location)


def _by_class(exc: Exception, code: str | int | None, text: str, location: str) -> Verdict:
    lost = (isinstance(exc, DBAPIError) and exc.connection_invalidated) or code in _LOST
    if isinstance(exc, PoolTimeout):
        return Verdict(error=StoreUnavailable(f"{location}: no connection became free in time: {text}"))
    if code in _UNUSABLE or "not a database" in text or "ON CONFLICT" in text or (_is_refusal(exc, code) and not lost):
        return Verdict(error=SettingsError(f"{location}: the tables cannot be used as they are: {text}"))
    if isinstance(exc, TimeoutError):
        silence = isinstance(exc, Silence)
        return Verdict(error=StoreUnavailable(f"{location}: no answer in time"), repeat=silence, distrust=silence)
    if "locked" in text and code is None:
        advice = "another process has kept the database locked for longer than the busy timeout"
        return Verdict(error=StoreUnavailable(f"{location}: {advice}: {text}"))
    unwrapped = not isinstance(exc, SQLAlchemyError | OSError)  # asyncpg's, of a connection that was cut just now
    cut = lost or (unwrapped and (code is None or code in _CUT or _class_of(code) == "08"))
    return Verdict(error=StoreUnavailable(f"{location}: {text}"), repeat=lost or unwrapped, distrust=cut)


def _is_refusal(exc: Exception, code: str | int | None) -> bool:
    return isinstance(exc, ProgrammingError | IntegrityError) or _class_of(code) in ("23", "42")


def _class_of(code: str | int | None) -> str:
    """Return the class of a SQLSTATE: 22 for data, 23 for integrity, 42 for access and syntax."""
    return code[:2] if isinstance(code, str) else ""


def _code(error: BaseException) -> str | int | None:
    first = error.args[0] if error.args else None
    if isinstance(first, int) and not isinstance(error, OSError):
        return first  # MySQL's number says more than the SQLSTATE that newer drivers give beside it
    state: Any = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state if isinstance(state, str) else None


def _text(error: BaseException) -> str:
    """Return the driver's own words, without the statement and its values, which SQLAlchemy would add."""
    if isinstance(error, SQLAlchemyError):
        return str(error.args[0]) if error.args else type(error).__name__
    words = str(error.args[-1]) if error.args else ""
    words = words.partition(": ")[2] if words.startswith("<class ") else words
    return f"{words or type(error).__name__}{advice_on_tls(words)}"


def _missing(location: str, text: str) -> str:
    return (
        f"{location}: {text}; let the tables be created (database_create_tables_at_setup=True), "
        f"create them with `aioresult sql create`, or correct database_table_names and database_table_schemas"
    )
