"""An application for servers that are started as processes: ``AIORESULT_URL`` names the store."""

from __future__ import annotations

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Mount, Route

from aioresult import AsyncResult, get_backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp, events


async def own(request: Request) -> StreamingResponse:
    """A handler of one's own."""
    return StreamingResponse(events(AsyncResult(request.path_params["task_id"])), media_type="text/event-stream")


async def by_sse_starlette(request: Request) -> EventSourceResponse:
    """The same by sse-starlette."""
    return EventSourceResponse(events(AsyncResult(request.path_params["task_id"])))


app = Starlette(
    routes=[
        Route("/own/{task_id}", own),
        Route("/sse/{task_id}", by_sse_starlette),
        Mount("/", ResultsApp(get_backend(), PUBLIC)),
    ]
)
