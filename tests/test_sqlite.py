"""SQLite: the conformance suite on a file and in memory, and what is particular to SQLite."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aioresult import Backend
from aioresult.testing import StoreTests


class TestConformance(StoreTests):
    """On a file, which is also where other processes would write."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "results.db"

    def make_backend(self, **settings: Any) -> Backend:
        return Backend(f"sqlite+aiosqlite:///{self.path}", **{"idle_timeout": 0.05, "poll_interval": 0.1, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute(
                "UPDATE celery_taskmeta SET result = ?, status = 'SUCCESS' WHERE task_id = ?", (b"{broken", task_id)
            )


class TestConformanceByPolling(TestConformance):
    """Where the files cause no events that could be had."""

    def make_backend(self, **settings: Any) -> Backend:
        return super().make_backend(**{"push": False, "poll_min_interval": 0.01, **settings})


def _unused() -> str:
    return uuid.uuid4().hex
