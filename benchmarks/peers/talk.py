"""How a peer's process talks to the benchmark: JSON lines. It uses only the standard library, as packages differ.

A script is run as ``SCRIPT consumer URL PIPE``, ``SCRIPT producer URL PIPE`` or ``SCRIPT worker URL``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

PATIENCE = 60
"""Seconds; longer than any operation, for libraries that need a timeout."""


class WrongValue(Exception):
    """Raised when the received value differs from the task's: this fails the whole run."""


class AsyncPeer(Protocol):
    """A library with an asynchronous client."""

    async def open(self) -> None: ...

    async def enqueue(self, number: int, pause: float) -> Any:
        """Enqueue a task that returns ``finished(number)`` after ``pause`` seconds; return its handle."""

    async def result(self, handle: Any) -> Any:
        """Wait in the way of the library's documentation, and return the value."""


class Peer(Protocol):
    """A library with a blocking client."""

    def open(self) -> None: ...

    def enqueue(self, number: int, pause: float) -> Any:
        """As for ``AsyncPeer``."""

    def result(self, handle: Any) -> Any:
        """As for ``AsyncPeer``."""


def finished(number: int) -> dict[str, Any]:
    """Return a task's value, with the time of the task's end; the task calls this last."""
    return {"n": number, "text": f"the value of {number}", "stored_at": time.monotonic_ns()}


def check(number: int, value: Any) -> int:
    """Compare the value of task ``number`` and return when that task ended."""
    if not isinstance(value, dict) or value.get("n") != number or value.get("text") != f"the value of {number}":
        raise WrongValue(f"task {number} returned {value!r:.200}")
    stored_at: int = value["stored_at"]
    return stored_at


# --- operations of an asynchronous peer ---


async def _wake_async(peer: AsyncPeer, count: int, pause: tuple[float, float]) -> dict[str, Any]:
    stored_at, resumed_at = [], []
    for number in range(count):
        handle = await peer.enqueue(number, random.uniform(*pause))
        value = await peer.result(handle)
        resumed_at.append(time.monotonic_ns())
        stored_at.append(check(number, value))
    return {"stored_at": stored_at, "resumed_at": resumed_at, "checked": count}


async def _serve_async(peer: AsyncPeer, answer: Callable[[dict[str, Any]], None]) -> None:
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    await peer.open()
    answer({"ready": True})
    hanging: list[asyncio.Task[Any]] = []

    async def hang(count: int) -> dict[str, Any]:
        handles = [await peer.enqueue(number, 0) for number in range(count)]
        hanging.extend(asyncio.ensure_future(peer.result(handle)) for handle in handles)
        await asyncio.sleep(0.5)
        return {}

    async def wake(count: int, pause: tuple[float, float]) -> dict[str, Any]:
        return await _wake_async(peer, count, pause)

    operations: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"wake": wake, "hang": hang}
    while line := await requests.readline():
        request = json.loads(line)
        try:
            answer({"reply": await operations[request.pop("op")](**request)})
        except Exception:  # noqa: BLE001  (it is reported to the parent process, which fails the run)
            answer({"error": traceback.format_exc()})
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


def serve_async(peer: AsyncPeer) -> None:
    """Answer requests until standard input ends."""
    answer = _answers()
    asyncio.run(_serve_async(peer, answer))


# --- operations of a blocking peer ---


def serve(peer: Peer, **more: Callable[..., dict[str, Any]]) -> None:
    """Answer requests until standard input ends; ``more`` are further operations."""
    answer = _answers()
    peer.open()

    def wake(count: int, pause: tuple[float, float]) -> dict[str, Any]:
        stored_at, resumed_at = [], []
        for number in range(count):
            value = peer.result(peer.enqueue(number, random.uniform(*pause)))
            resumed_at.append(time.monotonic_ns())
            stored_at.append(check(number, value))
        return {"stored_at": stored_at, "resumed_at": resumed_at, "checked": count}

    def hang(count: int) -> dict[str, Any]:
        for number in range(count):
            handle = peer.enqueue(number, 0)
            threading.Thread(target=peer.result, args=(handle,), daemon=True).start()
        time.sleep(0.5)
        return {}

    operations: dict[str, Callable[..., dict[str, Any]]] = {"wake": wake, "hang": hang, **more}
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer({"reply": operations[request.pop("op")](**request)})
        except Exception:  # noqa: BLE001  (it is reported to the parent process, which fails the run)
            answer({"error": traceback.format_exc()})
    os._exit(0)  # threads may still be blocked


def _answers() -> Callable[[dict[str, Any]], None]:
    """Return a function that writes to the present standard output; what the library prints goes to the log instead."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    return answer
