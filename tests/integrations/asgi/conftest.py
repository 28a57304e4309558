"""Backends on each kind of store, and browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from tests.integrations.asgi.web import Browser, Serving, by_hypercorn, by_uvicorn
from tests.servers.chromium import Chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A real browser; ``browser`` is httpx, which is quicker."""
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(params=["memory", "redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that two backends can share."""
    match request.param:
        case "redis":
            redis_url: str = request.getfixturevalue("redis_url")
            return redis_url
        case "sqlite":
            return f"sqlite:///{tmp_path / 'results.db'}"
    return f"memory://{tmp_path.name}"


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    async with Backend(url) as backend:
        yield backend


@pytest.fixture
async def memory() -> AsyncIterator[Backend]:
    async with Backend("memory://") as backend:
        yield backend


@pytest.fixture(params=["uvicorn", "hypercorn"])
def serving(request: pytest.FixtureRequest) -> Serving:
    return {"uvicorn": by_uvicorn, "hypercorn": by_hypercorn}[request.param]


Open = Callable[..., Any]


@pytest.fixture
async def browse() -> AsyncIterator[Open]:
    """Return a function that serves an application, and gives a browser that looks at it."""
    async with AsyncExitStack() as stack:

        async def browse(app: Any, serving: Serving = by_uvicorn, **settings: Any) -> Browser:
            url = await stack.enter_async_context(serving(app, **settings))
            browser = Browser(url)
            await stack.enter_async_context(browser.client)
            return browser

        yield browse


@pytest.fixture
async def browser(memory: Backend, browse: Open) -> Browser:
    """Look at the tasks of ``memory``, which everybody may see."""
    found: Browser = await browse(ResultsApp(memory, PUBLIC))
    return found
