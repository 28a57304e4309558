"""The statements of each kind of database, and the choice by a URL."""

from __future__ import annotations

import importlib
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
    module, _, name = _CLASSES[family].partition(":")
    found: type[Dialect] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found
