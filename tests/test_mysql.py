"""MySQL and MariaDB: the conformance suite, and what is particular to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioresult import Backend
from aioresult.testing import StoreTests
from tests.servers import mariadb


class TestConformance(StoreTests):
    @pytest.fixture(autouse=True)
    def _server(self, mariadb_url: str) -> None:
        self.database = mariadb_url

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(
            self.database, **{"idle_timeout": 0.05, "poll_interval": 0.1, "poll_min_interval": 0.01, **settings}
        )

    async def poison(self, backend: Backend, task_id: str) -> None:
        statement = f"UPDATE celery_taskmeta SET result = '{{broken', status = 'SUCCESS' WHERE task_id = '{task_id}'"
        await asyncio.to_thread(mariadb.execute, self.database, statement)
