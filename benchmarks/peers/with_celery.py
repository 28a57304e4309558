"""Celery's client: ``AsyncResult.get()``; the results come from Celery's own backend in another process."""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any

from celery import Celery
from talk import WrongValue, serve


class Client:
    def __init__(self, url: str, pipe: int) -> None:
        self.app = Celery(broker="memory://", backend=url)
        self.pipe = pipe

    def open(self) -> None:
        """Connect, by a first look-up."""
        self.app.AsyncResult("nobody").state  # noqa: B018  (a property that asks the store)

    def enqueue(self, number: int, pause: float) -> Any:
        return self.app.AsyncResult(f"nobody-runs-this-{os.getpid()}-{number}")

    def result(self, handle: Any) -> Any:
        return handle.get()

    def wake_consume(self, run: str, count: int, background: int) -> dict[str, Any]:
        resumed_at = []
        for number in range(count):
            result = self.app.AsyncResult(f"{run}-{number}")
            os.write(self.pipe, b".")
            value = result.get(timeout=60)
            resumed_at.append(time.monotonic_ns())
            if value != {"n": number}:
                raise WrongValue(f"task {number} returned {value!r:.200}")
        return {"resumed_at": resumed_at, "checked": count}

    def wake_produce(self, run: str, count: int, pause: tuple[float, float]) -> dict[str, Any]:
        stored_at = []
        for number in range(count):
            os.read(self.pipe, 1)
            time.sleep(random.uniform(*pause))
            stored_at.append(time.monotonic_ns())
            self.app.backend.store_result(f"{run}-{number}", {"n": number}, "SUCCESS")
        return {"stored_at": stored_at}


if __name__ == "__main__":
    client = Client(sys.argv[2], int(sys.argv[3]))
    serve(client, wake_consume=client.wake_consume, wake_produce=client.wake_produce)
