"""Tasks in the browser: an ASGI application, and events for your own handlers. Needs only aioresult.

    from aioresult.integrations.asgi import ResultsApp

    app.mount("/results", ResultsApp(backend, authorize=may_see))      # Starlette, FastAPI; or served by itself

- ``ResultsApp`` answers with snapshots, server-sent events and WebSockets, and stops tasks.
- ``events(result, last_event_id)`` gives the events to a handler of Starlette, FastAPI, Django or others.
"""

from aioresult.integrations.asgi.app import ResultsApp
from aioresult.integrations.asgi.event import Event, Fields
from aioresult.integrations.asgi.events import Events, events
from aioresult.integrations.asgi.position import InvalidCursor
from aioresult.integrations.asgi.request import PUBLIC, Authorize, Headers, Request

__all__ = [
    "PUBLIC",
    "Authorize",
    "Event",
    "Events",
    "Fields",
    "Headers",
    "InvalidCursor",
    "Request",
    "ResultsApp",
    "events",
]
