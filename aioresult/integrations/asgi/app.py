"""The ASGI application."""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final, Literal

from aioresult.backend import Backend
from aioresult.default import check_backend
from aioresult.integrations.asgi.connections import Connections
from aioresult.integrations.asgi.events import HEARTBEAT, RETRY, check_times
from aioresult.integrations.asgi.exchange import Exchange
from aioresult.integrations.asgi.request import Authorize, Receive, Request, Scope, Send
from aioresult.integrations.asgi.site import Site
from aioresult.integrations.asgi.sockets import Socket

_UNKNOWN: Final = {"pending", "missing"}


class ResultsApp:
    """An ASGI application through which browsers see tasks. It can be served by itself, or mounted.

    ====================== =============================================================================================
    ``GET /{id}``          the task's state, as JSON
    ``GET /{id}?wait=30``  the same as soon as the task is final, or after that many seconds
    ``GET /{id}/events``   its states and the items of its stream, as server-sent events
    WebSocket ``/{id}``    the same events, as JSON
    ``POST /{id}/revoke``  stops it; only with ``authorize_revoke``
    ====================== =============================================================================================

    Args:
        backend: where the results are.
        authorize: returns whether the client may see a task: ``authorize(request, task_id) -> bool``, a function or a
            coroutine function. A refused task looks like one of which nothing is stored. Its exceptions reach the
            surrounding application. ``PUBLIC`` lets everybody see everything.
        authorize_revoke: returns whether the client may stop a task. Without it there is no such route.
        unknown: how to treat a task of which nothing is stored. ``"pending"``: it has not started, as with Celery,
            whose workers store nothing before; clients wait for it. ``"missing"``: it does not exist (404); for
            producers that store something before they publish an id.
        heartbeat: seconds without an event after which a comment is sent.
        retry: seconds after which a browser connects again.
        max_wait: the longest ``wait``, in seconds.
        max_streams: how many connections may wait at the same time (503).
        max_streams_per_client: how many of them of one client (429).
        client: returns what identifies a client, by default its address. Behind a proxy, this is the proxy's address,
            unless the server trusts the proxy (uvicorn: ``--forwarded-allow-ips``).
        send_timeout: seconds without reading anything after which a client is disconnected.
        origins: origins of other sites, such as ``https://app.example``, whose pages may open WebSockets and stop
            tasks; ``*`` for all. For ``GET``, a CORS middleware around this application decides.
        tracebacks: whether clients see the tracebacks of failed tasks.

    Raises:
        TypeError: there is no ``authorize``.
        ValueError: another argument is out of range.
    """

    def __init__(
        self,
        backend: Backend,
        authorize: Authorize,
        authorize_revoke: Authorize | None = None,
        *,
        unknown: Literal["pending", "missing"] = "pending",
        heartbeat: float = HEARTBEAT,
        retry: float = RETRY,
        max_wait: float = 60.0,
        max_streams: int = 10_000,
        max_streams_per_client: int = 1_000,
        client: Callable[[Request], str] | None = None,
        send_timeout: float = 60.0,
        origins: Collection[str] = (),
        tracebacks: bool = False,
    ) -> None:
        if not callable(authorize):
            raise TypeError(
                "ResultsApp needs authorize=..., which says who may see a task; aioresult.integrations.asgi.PUBLIC "
                "lets everybody see every task"
            )
        if unknown not in _UNKNOWN:
            raise ValueError(f"unknown is 'pending' or 'missing', not {unknown!r}")
        check_times(heartbeat, retry)
        if not max_wait >= 0:
            raise ValueError(f"max_wait is a number of seconds, not {max_wait!r}")
        if not send_timeout > 0:
            raise ValueError(f"send_timeout is a positive number of seconds, not {send_timeout!r}")
        self._connections = Connections(max_streams, max_streams_per_client)
        self._site = Site(
            backend=check_backend(backend),
            connections=self._connections,
            authorize=authorize,
            authorize_revoke=authorize_revoke,
            client=client or attrgetter("client"),
            missing=unknown == "missing",
            heartbeat=heartbeat,
            retry=retry,
            max_wait=max_wait,
            send_timeout=send_timeout,
            origins=origins,
            tracebacks=tracebacks,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the lifespan of the server."""
        match scope["type"]:
            case "http":
                await Exchange(self._site, scope, receive, send).serve()
            case "websocket":
                await Socket(self._site, scope, receive, send).serve()
            case "lifespan":
                await self._serve_lifespan(receive, send)
            case other:
                raise ValueError(f"ResultsApp serves http, websocket and lifespan, not {other!r}")

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._connections.end_all()
                await send({"type": "lifespan.shutdown.complete"})
                return

    @property
    def open_streams(self) -> int:
        """How many connections wait at present."""
        return len(self._connections)
