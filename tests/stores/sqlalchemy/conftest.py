"""Databases for tests that are the same for each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.dialects.postgresql.base import PGDialect

_CACHED = [function for function in vars(PGDialect).values() if hasattr(function, "cache_clear")]


@pytest.fixture(autouse=True)
def queries_of_closed_engines() -> Iterator[None]:
    """Forget what SQLAlchemy keeps of up to 128 engines: some hundred objects each, which the search for leaks sees."""
    yield
    for function in _CACHED:
        function.cache_clear()


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    if request.param == "mysql":
        return str(request.getfixturevalue("mariadb_url"))
    return str(request.getfixturevalue("postgres_url")).replace("asyncpg", request.param.partition("+")[2])
