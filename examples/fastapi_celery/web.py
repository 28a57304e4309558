"""The web half: an endpoint that awaits a result, and the application that streams progress as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse

from aioresult import (
    AioResultError,
    InvalidTaskId,
    ResultTimeout,
    StoreUnavailable,
    TaskRevokedError,
)
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from aioresult.integrations.celery import BrokerUnavailable, apply_async, backend_from_app
from examples.fastapi_celery import tasks

STATUSES: list[tuple[type[Exception], int]] = [
    (ResultTimeout, 504),  # the task takes longer than the caller would wait; ask again
    (TaskRevokedError, 410),  # it was cancelled, and there will be no result
    (InvalidTaskId, 404),  # longer than any id that the store could hold
    (StoreUnavailable, 503),
    (BrokerUnavailable, 503),
    (AioResultError, 500),  # the task failed with an exception that is not known here
]
PAGE = Path(__file__).parent / "page.html"
backend = backend_from_app(tasks.app)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Have one backend for as long as the application runs: all requests share its connections."""
    async with backend:
        yield


app = FastAPI(title="Reports", lifespan=lifespan)
app.mount("/results", ResultsApp(backend, authorize=PUBLIC))  # whoever knows the id of a report sees it


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE)


@app.post("/reports", status_code=202)
async def start(pages: int, seconds_per_page: float = 0.1) -> dict[str, str]:
    """Have a report written, and return its id at once."""
    result = await apply_async(tasks.write_report, (pages, seconds_per_page), backend=backend)
    return {"id": result.id, "result": f"/reports/{result.id}", "progress": f"/results/{result.id}/events"}


@app.get("/reports/{job_id}")
async def report(job_id: str, timeout: float = Query(10, ge=0, le=60)) -> dict[str, int]:
    """Return the report as soon as it is there: the store says when, nobody polls."""
    value: dict[str, int] = await backend.AsyncResult(job_id).get(timeout=timeout)
    return value


@app.exception_handler(AioResultError)
async def tell_what_happened(_: Request, exc: AioResultError) -> JSONResponse:
    """Turn what ``await`` raised into a status that tells the caller whether to try again."""
    status = next(status for kind, status in STATUSES if isinstance(exc, kind))
    headers = {"Retry-After": "1"} if status in (503, 504) else None
    return JSONResponse({"error": type(exc).__name__, "detail": str(exc)}, status, headers)


@app.exception_handler(ValueError)
async def tell_what_was_wrong(_: Request, exc: ValueError) -> JSONResponse:
    """The tasks of this application raise ``ValueError`` for wrong arguments; it arrives here as what it was there."""
    return JSONResponse({"error": "ValueError", "detail": str(exc)}, 422)
