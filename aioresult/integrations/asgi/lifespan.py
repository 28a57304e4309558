"""The lifespan protocol of ASGI."""

from __future__ import annotations

from collections.abc import Callable

from aioresult.integrations.asgi.request import Receive, Send


async def serve(receive: Receive, send: Send, ended: Callable[[], None]) -> None:
    """Answer the server's messages until it ends, and call ``ended`` then."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            ended()
            await send({"type": "lifespan.shutdown.complete"})
            return
