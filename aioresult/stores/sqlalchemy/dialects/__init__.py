"""The statements of each kind of database, and the choice by a URL."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Final

from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.urls import Family

_CLASSES: Final[dict[Family, str]] = {
    "sqlite": "sqlite:SQLiteDialect",
    "postgresql": "postgresql:PostgreSQLDialect",
    "mysql": "mysql:MySQLDialect",
}


def dialect_class(family: Family) -> type[Dialect]:
    """Return the dialect of ``family``; the others are not imported."""
    found: type[Dialect] = resolve_name(f"{__name__}.{_CLASSES[family]}")
    return found
