"""Requests by HTTP: snapshots, events, and stopping."""

from __future__ import annotations

import logging
import math
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Final

from aioresult.errors import AioResultError
from aioresult.integrations.asgi.answers import Header, Refusal, answer
from aioresult.integrations.asgi.bodies import json_of, state_body
from aioresult.integrations.asgi.connections import taken
from aioresult.integrations.asgi.events import Events
from aioresult.integrations.asgi.request import Receive, Request, Scope, Send
from aioresult.integrations.asgi.routes import EVENTS, REVOKE, Route, route_of
from aioresult.integrations.asgi.site import Site, not_found

logger = logging.getLogger("aioresult")
_READ: Final = ("GET", "HEAD")
_EVENT_STREAM: Final[list[Header]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
"""``no-transform`` prevents proxies from compressing, ``X-Accel-Buffering`` prevents nginx from buffering."""


class Exchange:
    """One request and its answer."""

    def __init__(self, site: Site, scope: Scope, receive: Receive, send: Send) -> None:
        self._site = site
        self._request = Request(scope)
        self._receive = receive
        self._send = send
        self._head = self._request.method == "HEAD"

    async def serve(self) -> None:
        try:
            route = route_of(self._request.scope)
            if route is None or (route.what == REVOKE and self._site.authorize_revoke is None):
                raise not_found()
            allowed = ("POST",) if route.what == REVOKE else _READ
            if self._request.method == "OPTIONS":
                await answer(self._send, HTTPStatus.NO_CONTENT, headers=[_allow(allowed)])
                return
            if self._request.method not in allowed:
                raise Refusal(
                    HTTPStatus.METHOD_NOT_ALLOWED, f"this is for {' and '.join(allowed)}", headers=[_allow(allowed)]
                )
            await self._serve_route(route)
        except Refusal as refusal:
            await answer(self._send, refusal.status, refusal.body, headers=refusal.headers, head=self._head)

    async def _serve_route(self, route: Route) -> None:
        if route.what == REVOKE:
            await self._revoke(route.task_id)
            return
        task_id = await self._site.permitted(self._request, route.task_id)
        if route.what == EVENTS:
            await self._events(task_id)
        else:
            await self._snapshot(route.task_id, task_id)

    # --- snapshots ---

    async def _snapshot(self, name: str, task_id: str) -> None:
        """Answer with the state of the task ``task_id``, now or after ``wait``, under the requested id."""
        wait = self._wait()
        record = await self._site.record(task_id)
        if wait and not record.ended and not self._head:
            async with self._site.connections.opened(self._site.client(self._request), self._receive) as connection:
                await self._site.final(task_id, wait)
            if connection.left:
                await self._answer_nobody()
                return
            record = await self._site.record(task_id)
        date_done = record.date_done
        body = state_body(record, tracebacks=self._site.tracebacks, id=name, date_done=date_done)
        await answer(self._send, HTTPStatus.OK, body, head=self._head)

    async def _answer_nobody(self) -> None:
        """Answer although the client has left, since a middleware may wait for an answer; servers may refuse it."""
        with suppress(OSError):
            await answer(self._send, HTTPStatus.NO_CONTENT)

    def _wait(self) -> float:
        text = self._request.query.get("wait", "0")
        try:
            wait = float(text)
        except ValueError:
            wait = -1.0
        if not 0 <= wait < math.inf:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"wait is a number of seconds, not {text!r:.60}")
        return min(wait, self._site.max_wait)

    # --- events ---

    async def _events(self, task_id: str) -> None:
        site = self._site
        events = site.events(task_id, self._request)
        if events.over:
            await answer(self._send, HTTPStatus.NO_CONTENT)
            return
        if self._head:
            await site.check(events)
            await self._begin_events()
            await self._end_events()
            return
        begun = False
        async with site.connections.opened(site.client(self._request), self._receive) as connection:
            await site.check(events)
            begun = True
            await self._begin_events()
            if not await self._send_events(events):
                return
        if connection.left:
            if not begun:
                await self._answer_nobody()
            return
        if not begun:  # the server stops: after an empty stream, a browser reconnects
            await self._begin_events()
        await self._end_events()

    async def _begin_events(self) -> None:
        await self._send({"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": _EVENT_STREAM})

    async def _send_events(self, events: Events) -> bool:
        """Send the events as they come, and return whether the client reads them.

        The next events are made only when ``send`` has returned, so nothing is buffered for a slow client.
        """
        async with aclosing(events.batches()) as batches:
            try:
                async for batch in batches:
                    message = {"type": "http.response.body", "body": b"".join(batch), "more_body": True}
                    if not await taken(self._send(message), self._site.send_timeout):
                        return False
            except AioResultError as exc:
                logger.warning("a stream of events ends early, and its client will connect again: %s", exc)
        return True

    async def _end_events(self) -> None:
        """End the response; a client that reads nothing is left to the server, which closes the connection."""
        await taken(
            self._send({"type": "http.response.body", "body": b"", "more_body": False}), self._site.send_timeout
        )

    # --- stopping ---

    async def _revoke(self, task_id: str) -> None:
        await self._site.check_revoke(self._request, task_id)
        revoked = await self._site.revoke(task_id)
        await answer(self._send, HTTPStatus.OK, json_of({"id": task_id, "revoked": revoked}))


def _allow(methods: tuple[str, ...]) -> tuple[bytes, bytes]:
    return b"allow", ", ".join([*methods, "OPTIONS"]).encode()
