"""RQ: ``job.latest_result(timeout=...)``; the worker runs jobs in its own process."""

from __future__ import annotations

import sys
import time
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from talk import PATIENCE, serve


def finish(number: int, pause: float) -> dict[str, Any]:
    from talk import finished

    time.sleep(pause)
    return finished(number)


class Client:
    def __init__(self, url: str) -> None:
        self._connection = Redis.from_url(url)

    def open(self) -> None:
        self._connection.ping()
        self._queue = Queue(connection=self._connection)

    def enqueue(self, number: int, pause: float) -> Any:
        return self._queue.enqueue("with_rq.finish", number, pause)

    def result(self, handle: Any) -> Any:
        result = handle.latest_result(timeout=PATIENCE)
        return None if result is None else result.return_value


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        connection = Redis.from_url(sys.argv[2])
        SimpleWorker([Queue(connection=connection)], connection=connection).work(logging_level="WARNING")
    else:
        serve(Client(sys.argv[2]))
