"""huey: ``result.get(blocking=True)``; the argument ``notify`` sets its storage's option ``notify_result``."""

from __future__ import annotations

import sys
import time
from typing import Any

from huey import RedisHuey
from talk import PATIENCE, finished, serve

notify = "notify" in sys.argv[3:]
huey = RedisHuey("notifying" if notify else "default", url=sys.argv[2], notify_result=notify)


@huey.task()
def finish(number: int, pause: float) -> dict[str, Any]:
    time.sleep(pause)
    return finished(number)


class Client:
    def open(self) -> None:
        """Connect at first use."""

    def enqueue(self, number: int, pause: float) -> Any:
        return finish(number, pause)

    def result(self, handle: Any) -> Any:
        return handle.get(blocking=True, timeout=PATIENCE)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        huey.create_consumer(workers=1).run()
    else:
        serve(Client())
