"""Databases for tests that are the same for each kind."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    if request.param == "mysql":
        return str(request.getfixturevalue("mariadb_url"))
    return str(request.getfixturevalue("postgres_url")).replace("asyncpg", request.param.partition("+")[2])
