"""The page of the tutorial in a real browser, which is reloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from tests.integrations.asgi.web import by_uvicorn
from tests.project.pages.parsing import blocks
from tests.servers.chromium import Chromium, Page

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial.md"


@pytest.fixture
async def address(memory: Backend) -> AsyncIterator[str]:
    """Serve the page as the tutorial does. The test plays the worker, for the tasks ``answer`` and ``second``."""
    ids = iter(["answer", "second"])
    [page] = [block.text for block in blocks(TUTORIAL) if block.about == "page.html"]
    web = FastAPI()
    web.mount("/results", ResultsApp(memory, authorize=PUBLIC))

    @web.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(page)

    @web.post("/ask")
    async def ask(question: str) -> dict[str, str]:
        return {"id": next(ids)}

    async with by_uvicorn(web) as url:
        yield url


async def shows(page: Page, answer: str, state: str) -> None:
    """Wait until the page shows this answer and this state."""
    text = "document.querySelector('#answer').textContent.trim() + '|' + document.querySelector('#state').textContent"
    await asyncio.to_thread(page.until, f"{text} === '{answer}|{state}'")


async def test_a_reload_shows_the_same_answer_from_its_beginning(
    chromium: Chromium, address: str, memory: Backend
) -> None:
    page = await asyncio.to_thread(chromium.page, address)
    await asyncio.to_thread(page.run, "document.querySelector('form').requestSubmit()")
    await memory.append("answer", "Because", "it")
    await memory.update_state("answer", "PROGRESS", {"done": 2, "of": 3})
    await shows(page, "Because it", "2 of 3")
    await asyncio.to_thread(page.reload)
    await shows(page, "Because it", "2 of 3")
    await memory.append("answer", "is.")
    await memory.mark_as_done("answer", {"words": 3})
    await shows(page, "Because it is.", "SUCCESS")
    await asyncio.to_thread(page.reload)
    await shows(page, "Because it is.", "SUCCESS")
    await asyncio.to_thread(page.until, "document.querySelector('progress').position === 1")
    await asyncio.to_thread(page.close)


async def test_a_second_question_takes_the_place_of_the_first(
    chromium: Chromium, address: str, memory: Backend
) -> None:
    page = await asyncio.to_thread(chromium.page, address)
    await asyncio.to_thread(page.run, "document.querySelector('form').requestSubmit()")
    await memory.append("answer", "Because")
    await memory.update_state("answer", "PROGRESS", {"done": 1, "of": 2})
    await shows(page, "Because", "1 of 2")
    await asyncio.to_thread(page.run, "document.querySelector('form').requestSubmit()")
    await asyncio.to_thread(page.until, "location.hash === '#second'")
    await memory.append("answer", "not", "shown")
    await memory.append("second", "Why", "not?")
    await memory.mark_as_done("second", None)
    await shows(page, "Why not?", "SUCCESS")
    await asyncio.to_thread(page.close)
