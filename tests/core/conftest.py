"""A store in memory, as one process has it and as another has it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from aioresult import Backend


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    """Where the runner is."""
    async with Backend(url) as backend:
        yield backend


@pytest.fixture
async def other(url: str) -> AsyncIterator[Backend]:
    """The same store, as another process has it."""
    async with Backend(url) as backend:
        yield backend
