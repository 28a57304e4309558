"""Operations on streams of events over HTTP: a web server in one process, and its clients in another."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

import redis.asyncio
import uvicorn

from aioresult.integrations.asgi import PUBLIC, ResultsApp
from benchmarks.roles import Reply, Role, memory, operation
from benchmarks.values import task_ids

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

STREAM: Final = "celery-task-stream-"
PAUSE: Final = 0.5
"""The interval of the handler that polls, in seconds."""
_AT_ONCE: Final = 100
"""Connections that are opened at the same time."""
_HEAD: Final[Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")],
}


def _task_of(scope: Message) -> str:
    return str(scope["path"]).split("/")[1]


def _event(payload: bytes) -> Message:
    return {"type": "http.response.body", "body": b"data: %b\n\n" % payload, "more_body": True}


@asynccontextmanager
async def _polling(url: str) -> AsyncIterator[App]:
    """Give a handler as usually written: it reads the store, and sleeps."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=50, timeout=None)
    client = redis.asyncio.Redis.from_pool(pool)

    async def app(scope: Message, _receive: object, send: Send) -> None:
        await send(_HEAD)
        await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        known = 1  # the list's first element is not an item
        while True:
            items: Any = await client.lrange(f"{STREAM}{_task_of(scope)}", known, -1)
            for item in items:
                await send(_event(item))
            known += len(items)
            await asyncio.sleep(PAUSE)

    yield app
    await client.aclose()


@asynccontextmanager
async def _subscribing(url: str) -> AsyncIterator[App]:
    """Give a handler as usually written with redis-py: a subscription for each stream. Earlier items are lost."""
    client = redis.asyncio.Redis.from_url(url, max_connections=2**16)

    async def app(scope: Message, _receive: object, send: Send) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(f"{STREAM}{_task_of(scope)}")
            await send(_HEAD)
            await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
            async for message in channel.listen():
                await send(_event(message["data"]))

    yield app
    await client.aclose()


@operation
async def serve_begin(role: Role, *, how: str) -> Reply:
    """Begin to serve; return the port."""
    own: Any = role.contestant
    stack = {"poll": _polling, "subscribe": _subscribing}
    if how == "aioresult":
        limits: dict[str, Any] = {"max_streams": 2**16, "max_streams_per_client": 2**16}
        manager, app = None, cast("App", ResultsApp(own.backend, PUBLIC, **limits))
    else:
        manager = stack[how](own.url)
        app = await manager.__aenter__()
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (it has no event for it)
        await asyncio.sleep(0.01)
    role.prepared = server, serving, manager
    gc.collect()
    return {"port": server.servers[0].sockets[0].getsockname()[1], "memory": memory()}


@operation
async def serve_usage(_role: Role) -> Reply:
    """Return the memory and the CPU seconds of this process."""
    gc.collect()
    return {"memory": memory(), "cpu": time.process_time()}


@operation
async def serve_end(role: Role) -> Reply:
    """Stop serving."""
    (server, serving, manager), role.prepared = role.prepared, None
    server.should_exit = True
    with suppress(asyncio.CancelledError):
        await serving
    if manager is not None:
        await manager.__aexit__(None, None, None)
    return {}


class Client(asyncio.Protocol):
    """One stream: notes when it is open, and when its first item arrives."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.arrived: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(b"GET /%b/events HTTP/1.1\r\nHost: bench\r\n\r\n" % self.task.encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            self.transport.abort()
        elif not self.open.done() and b"\n: " in data:  # a comment: the server now waits for items
            self.open.set_result(None)
        if b"data: " in data and not self.arrived.done():
            self.arrived.set_result(now)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.open, self.arrived):
            if not future.done():
                future.set_exception(exc or ConnectionError("the server has closed a stream"))
                future.exception()  # it need not be awaited


@operation
async def browse_begin(role: Role, *, run: str, count: int, port: int) -> Reply:
    """Open ``count`` streams; return once the server has answered all of them."""
    loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)

    async def open_one(task: str) -> Client:
        async with slots:
            _, client = await loop.create_connection(lambda: Client(task), "127.0.0.1", port)
            await client.open
            return client

    role.reading = await asyncio.gather(*[open_one(task) for task in task_ids(run, count)])
    return {}


@operation
async def browse_end(role: Role) -> Reply:
    """Return when the first item of each stream arrived, and close the streams."""
    clients, role.reading = role.reading, None
    arrived_at = await asyncio.gather(*[client.arrived for client in clients])
    for client in clients:
        client.transport.close()
    return {"arrived_at": arrived_at}


@operation
async def append_each(role: Role, *, run: str, count: int, per_second: float) -> Reply:
    """Append an item to each stream, evenly spaced; return the start time of each."""
    own: Any = role.contestant
    began = time.monotonic()
    stored_at: list[int] = []
    appending: list[asyncio.Task[int]] = []
    for number, task in enumerate(task_ids(run, count)):
        await asyncio.sleep(began + number / per_second - time.monotonic())
        stored_at.append(time.monotonic_ns())
        appending.append(asyncio.create_task(own.backend.append(task, "token")))
    await asyncio.gather(*appending)
    return {"stored_at": stored_at}
