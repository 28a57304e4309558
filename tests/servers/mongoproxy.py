"""A proxy before MongoDB that answers some of the requests itself, as servers do that only speak its protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.servers.opmsg import HEADER, OP_MSG, Document, document, message
from tests.servers.proxy import TcpProxy


class AnsweringMongoProxy(TcpProxy):
    """Forwards requests to a server, but for those that ``answer`` has an answer to.

    Args:
        url: of the server, of which others than its first host are not used.
        answer: takes the document of a request; returns that of an answer, or ``None`` to forward the request.
    """

    def __init__(self, url: str, answer: Callable[[Document], Document | None]) -> None:
        super().__init__(url)
        self._answer = answer

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}{self._upstream.path}?directConnection=true"

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        if way == "to the client":
            await super()._forward(source, target, way)
            return
        client = next(pipe.client for pipe in self._pipes.values() if pipe.server is target)
        try:
            while True:
                header = await source.readexactly(HEADER.size)
                length, request, _, kind = HEADER.unpack(header)
                body = await source.readexactly(length - HEADER.size)
                answer = self._answer(document(body)) if kind == OP_MSG else None
                if answer is None:
                    target.write(header + body)
                else:
                    client.write(message(request, answer))
        except asyncio.IncompleteReadError:
            return


def refusal(code: int, text: str = "refused by the test", **more: Any) -> Document:
    """Return the answer by which a server refuses a request."""
    return {"ok": 0.0, "code": code, "codeName": "Refused", "errmsg": text, **more}
