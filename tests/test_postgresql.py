"""PostgreSQL: the conformance suite over both drivers, and what is particular to PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

import psycopg
import pytest

from aioresult import Backend
from aioresult.testing import StoreTests


def for_libpq(url: str) -> str:
    """Return a URL of SQLAlchemy's as libpq takes it."""
    return url.replace("+asyncpg", "").replace("+psycopg", "")


def execute(url: str, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    """Execute ``statement`` behind everybody's back and return its rows."""
    with psycopg.connect(for_libpq(url), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


class TestConformanceOverAsyncpg(StoreTests):
    driver: ClassVar[str] = "asyncpg"

    @pytest.fixture(autouse=True)
    def _server(self, postgres_url: str) -> None:
        self.database = postgres_url.replace("asyncpg", self.driver)

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(self.database, **{"idle_timeout": 0.05, "poll_interval": 0.1, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        statement = "UPDATE celery_taskmeta SET result = '{broken', status = 'SUCCESS' WHERE task_id = %s"
        await asyncio.to_thread(execute, self.database, statement, (task_id,))


class TestConformanceOverPsycopg(TestConformanceOverAsyncpg):
    driver = "psycopg"


_ = os
