"""Server-sent events over HTTP."""

from __future__ import annotations

import logging
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

from aioresult.errors import AioResultError
from aioresult.integrations.asgi.answers import Header
from aioresult.integrations.asgi.connections import taken
from aioresult.integrations.asgi.events import Events
from aioresult.integrations.asgi.request import Send

logger = logging.getLogger("aioresult")
HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
"""``no-transform`` keeps proxies from compressing, ``X-Accel-Buffering`` keeps nginx from collecting."""


async def begin(send: Send) -> None:
    """Send the head of the answer."""
    await send({"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": HEADERS})


async def send_events(events: Events, send: Send, patience: float) -> bool:
    """Send the events as they come, and return whether the client takes them.

    What the client does not take yet is not made either: the next events are asked for when ``send`` has returned.

    Args:
        events: what to send.
        send: of ASGI.
        patience: seconds for which the client may take nothing.
    """
    async with aclosing(events.batches()) as batches:
        try:
            async for batch in batches:
                message = {"type": "http.response.body", "body": b"".join(batch), "more_body": True}
                if not await taken(send(message), patience):
                    return False
        except AioResultError as exc:
            logger.warning("a stream of events ends early, and its client will connect again: %s", exc)
    return True


async def end(send: Send) -> None:
    """End the answer."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})
