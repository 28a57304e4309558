"""The web server: takes questions, and lets browsers follow what is stored. It keeps nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from fastapi import Body, FastAPI
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from aioresult.integrations.asgi import Request, ResultsApp
from examples.chat.store import QUESTIONS, backend

STATIC = Path(__file__).parent / "static"
store = backend()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with store:
        yield


def may_see(_: Request, task_id: str) -> bool:
    """Whoever has the address of a conversation sees it, as its id cannot be guessed. An application asks who it is."""
    return task_id != QUESTIONS


app = FastAPI(title="Chat", lifespan=lifespan)
app.mount("/results", ResultsApp(store, authorize=may_see, authorize_revoke=may_see))
app.mount("/static", StaticFiles(directory=STATIC))


@app.get("/")
async def begin() -> RedirectResponse:
    """Begin a conversation. Its id is in the address, so that a reload and a second tab show the same one."""
    return RedirectResponse(f"/c/{uuid4()}")


@app.get("/c/{conversation}")
async def page() -> FileResponse:
    return FileResponse(STATIC / "page.html")


@app.post("/c/{conversation}", status_code=202)
async def ask(
    conversation: str, text: Annotated[str, Body(embed=True, min_length=1, max_length=500)]
) -> dict[str, str]:
    """Note a question, for the worker and for the pages: a conversation is a stream of questions, which never ends."""
    question = {"id": str(uuid4()), "text": text}
    await asyncio.gather(store.append(QUESTIONS, question), store.append(conversation, question))
    return question
