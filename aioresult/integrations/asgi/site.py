"""What all connections share: the backend, the limits, and the permissions."""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

import msgspec

from aioresult.backend import Backend
from aioresult.errors import InvalidTaskId, ResultTimeout, StoreUnavailable, StreamGap
from aioresult.integrations.asgi.answers import Refusal
from aioresult.integrations.asgi.connections import Connections
from aioresult.integrations.asgi.events import Events
from aioresult.integrations.asgi.origins import is_own
from aioresult.integrations.asgi.position import InvalidCursor, Position
from aioresult.integrations.asgi.request import Authorize, Request
from aioresult.record import Record, check_task_id
from aioresult.runtime import deadline_after
from aioresult.states import PENDING
from aioresult.stream import Cursor

logger = logging.getLogger("aioresult")


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a ``ResultsApp``, which documents them, and the decisions that follow from them.

    Errors are raised as a ``Refusal``.
    """

    backend: Backend
    connections: Connections
    authorize: Authorize
    authorize_revoke: Authorize | None
    client: Callable[[Request], str]
    missing: bool
    heartbeat: float
    retry: float
    max_wait: float
    send_timeout: float
    origins: Collection[str]
    tracebacks: bool

    async def permitted(self, request: Request, task_id: str) -> str:
        """Return the id to look up: for a refused task, an id that no task has.

        A refused task then takes the same steps as one of which nothing is stored, and looks the same.
        """
        try:
            self.backend._runtime.check(check_task_id(task_id))
        except InvalidTaskId as exc:
            raise not_found() from exc
        if await _allows(self.authorize, request, task_id):
            return task_id
        logger.info("authorize refused the task %r to %s", task_id, request.client)
        return f"refused-{uuid.uuid4().hex}"

    async def check_revoke(self, request: Request, task_id: str) -> None:
        """Refuse to stop a task that the client may not see or stop."""
        permitted = await self.permitted(request, task_id) == task_id
        if not (permitted and self.authorize_revoke and await _allows(self.authorize_revoke, request, task_id)):
            raise not_found()
        self.check_origin(request)

    def check_origin(self, request: Request) -> None:
        """Refuse a page of another site, because the browser sends the visitor's cookies along."""
        origin = request.headers.get("origin")
        if origin is None or "*" in self.origins or origin in self.origins:
            return
        if not is_own(origin, request.headers.get("host", ""), str(request.scope.get("scheme", ""))):
            logger.info("a page of %r was refused; origins=[...] of ResultsApp admits other sites", origin)
            raise Refusal(HTTPStatus.FORBIDDEN, "this is not for pages of other sites")

    def events(self, task_id: str, request: Request) -> Events:
        """Return the events after those that the client has seen."""
        cursor = request.headers.get("last-event-id") or request.query.get("after")
        try:
            position = Position.parse(cursor)
        except InvalidCursor as exc:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(exc)) from exc
        result = self.backend.AsyncResult(task_id)
        return Events(result, position, heartbeat=self.heartbeat, retry=self.retry, tracebacks=self.tracebacks)

    async def check(self, events: Events) -> None:
        """Refuse if the events cannot continue after the client's position."""
        try:
            with _asking():
                await self._refuse_missing(await events.check())
        except StreamGap as exc:
            gap = StreamGap("what was sent before is not stored any more: events cannot go on from there", exc.first)
            raise Refusal(HTTPStatus.GONE, str(gap), error=gap) from exc

    async def record(self, task_id: str) -> Record:
        """Return the record as it is now."""
        with _asking():
            record = await self.backend._runtime.look(task_id) or Record(id=task_id)
            await self._refuse_missing(record)
        return record

    async def final(self, task_id: str, wait: float) -> None:
        """Wait until the task is final, or for ``wait`` seconds."""
        with suppress(ResultTimeout), _asking():
            await self.backend._runtime.final(task_id, wait, deadline_after(wait))

    async def revoke(self, task_id: str) -> bool:
        """Stop the task, and return whether it was stopped: false if it was final."""
        await self.record(task_id)
        with _asking():
            return await self.backend.AsyncResult(task_id).revoke()

    async def _refuse_missing(self, record: Record) -> None:
        if not self.missing or record.status != PENDING:
            return
        runtime = self.backend._runtime
        if runtime.store.keeps_streams and (await runtime.batcher.read_stream(Cursor(record.id, 0, 0))).last:
            return
        raise not_found()


async def _allows(authorize: Authorize, request: Request, task_id: str) -> bool:
    answer = authorize(request, task_id)
    return bool(await answer if inspect.isawaitable(answer) else answer)


def not_found() -> Refusal:
    """Return the refusal for a task that does not exist, or must look so."""
    return Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")


@contextmanager
def _asking() -> Iterator[None]:
    """Refuse if the store is unavailable in the block, without telling a browser where the store is."""
    try:
        yield
    except StoreUnavailable as exc:
        logger.warning("the result store is unavailable: %s", exc)
        text = "the result store cannot be reached at the moment; try again later"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text) from exc
