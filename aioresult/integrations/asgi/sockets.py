"""Events over a WebSocket."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import Final

from aioresult.errors import AioResultError
from aioresult.integrations.asgi.answers import Refusal
from aioresult.integrations.asgi.connections import taken
from aioresult.integrations.asgi.event import Event
from aioresult.integrations.asgi.events import Events
from aioresult.integrations.asgi.request import Receive, Request, Scope, Send
from aioresult.integrations.asgi.routes import SNAPSHOT, route_of
from aioresult.integrations.asgi.site import Site, not_found

logger = logging.getLogger("aioresult")
_DONE: Final = 1000
_TRY_AGAIN: Final = 1012
"""The server restarts."""
_TOO_SLOW: Final = 4408
_REASON: Final = 123
"""The most bytes of a reason."""


class Socket:
    """One WebSocket, which only sends: one JSON text ``{"event": ..., "id": ..., "data": ...}`` for each event.

    It is closed with 1000 after the end, with 4000 plus the status where HTTP would refuse, and with 1012 when the
    server stops.
    """

    def __init__(self, site: Site, scope: Scope, receive: Receive, send: Send) -> None:
        self._site = site
        self._request = Request(scope)
        self._receive = receive
        self._send = send

    async def serve(self) -> None:
        if (await self._receive())["type"] != "websocket.connect":
            return
        try:
            self._site.check_origin(self._request)
        except Refusal as refusal:
            # The socket is not accepted before, so that a browser's page learns nothing.
            await self._close(refusal.code, str(refusal))
            return
        await self._send({"type": "websocket.accept"})
        try:
            code = await self._serve_events()
        except Refusal as refusal:
            await self._close(refusal.code, str(refusal))
        else:
            if code is not None:
                await self._close(code, "")

    async def _serve_events(self) -> int | None:
        """Send the events, and return the code to close with; ``None`` if the client has left."""
        site = self._site
        route = route_of(self._request.scope)
        if route is None or route.what != SNAPSHOT:
            raise not_found()
        events = site.events(await site.permitted(self._request, route.task_id), self._request)
        code = _TRY_AGAIN
        async with site.connections.opened(site.client(self._request), self._receive) as connection:
            await site.check(events)
            code = await self._send_events(events)
        return None if connection.left else code

    async def _send_events(self, events: Events) -> int:
        async with aclosing(events.batches()) as batches:
            try:
                async for batch in batches:
                    for event in batch:
                        if event.event is not None and not await self._taken(event):
                            return _TOO_SLOW
            except AioResultError as exc:
                logger.warning("a WebSocket ends early, and its client may connect again: %s", exc)
                return _TRY_AGAIN
        return _DONE

    async def _taken(self, event: Event) -> bool:
        text = f'{{"event":"{event.event}","id":"{event.id}","data":{event.data}}}'
        return await taken(self._send({"type": "websocket.send", "text": text}), self._site.send_timeout)

    async def _close(self, code: int, reason: str) -> None:
        short = reason.encode()[:_REASON].decode(errors="ignore")  # drops a character that was cut in two
        await self._send({"type": "websocket.close", "code": code, "reason": short})
