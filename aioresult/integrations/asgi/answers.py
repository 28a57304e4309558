"""Plain answers: JSON, and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from aioresult.integrations.asgi.bodies import error_form
from aioresult.integrations.asgi.request import Send

Header = tuple[bytes, bytes]
NO_STORE: Final[Header] = (b"cache-control", b"no-store")
RETRY_AFTER: Final = 5
"""Seconds that a client should wait if there are too many streams, or the store is unavailable."""


class Refusal(Exception):
    """Why a request is not served. A WebSocket is closed with its ``code``; the rest is for HTTP."""

    def __init__(
        self, status: HTTPStatus, message: str, *, error: Exception | None = None, headers: Sequence[Header] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = 4000 + status
        form = {"type": status.phrase.title().replace(" ", ""), "message": message}
        self.body = msgspec.json.encode({"error": form if error is None else error_form(error)})
        self.headers = headers
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self.headers = [*headers, (b"retry-after", b"%d" % RETRY_AFTER)]


async def answer(
    send: Send, status: HTTPStatus, body: bytes = b"", *, headers: Sequence[Header] = (), head: bool = False
) -> None:
    """Send a whole answer, whose body is JSON or empty; ``head`` omits the body."""
    content = [] if status == HTTPStatus.NO_CONTENT else [(b"content-length", b"%d" % len(body))]
    if body:
        content.insert(0, (b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": int(status), "headers": [*content, NO_STORE, *headers]})
    await send({"type": "http.response.body", "body": b"" if head else body})
