"""dramatiq: ``message.get_result(block=True)``."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from talk import PATIENCE, finished, serve

broker = RedisBroker(url=sys.argv[2])
broker.add_middleware(Results(backend=RedisBackend(url=sys.argv[2])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def finish(number: int, pause: float) -> dict[str, Any]:
    time.sleep(pause)
    return finished(number)


class Client:
    def open(self) -> None:
        """Connect at first use."""

    def enqueue(self, number: int, pause: float) -> Any:
        return finish.send(number, pause)

    def result(self, handle: Any) -> Any:
        return handle.get_result(block=True, timeout=PATIENCE * 1000)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker = dramatiq.Worker(broker, worker_threads=2)
        worker.start()
        signal.pause()
    else:
        serve(Client())
