"""The Celery applications of the tests, and the tasks that their workers run: one for each way in which a task can end.

Run as ``celery -A tests.integrations.celery.tasks worker`` it is the application that ``AIORESULT_TEST_CELERY``
(JSON) describes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.error
from datetime import UTC, date, datetime
from decimal import Decimal
from email.message import Message
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic
from celery import Celery, Task
from celery.contrib.abortable import AbortableTask
from celery.exceptions import Ignore
from celery.signals import worker_init, worker_ready
from kombu.serialization import registry

from aioresult.integrations.celery import apply_async, emit

ENVIRONMENT = "AIORESULT_TEST_CELERY"
READY = "AIORESULT_TEST_CELERY_READY"
MOMENT = datetime(2026, 2, 3, 4, 5, 6, 700_000, tzinfo=UTC)
PLAIN: dict[str, Any] = {
    "none": None,
    "text": "Grüße ✓",
    "numbers": [0, -1, 2**40, 1.5, True],
    "deep": {"a": [{"b": []}]},
}
VALUES: dict[str, Any] = {
    "json": {**PLAIN, "typed": [MOMENT, date(2026, 2, 3), Decimal("1.10"), UUID(int=7), b"\x00\xff"]},
    "pickle": {**PLAIN, "typed": (MOMENT, {1, 2}, Decimal("1.10"), UUID(int=7), b"\x00\xff", 2**70)},
    "msgpack": {**PLAIN, "typed": b"\x00\xff"},
    "yaml": {**PLAIN, "typed": [date(2026, 2, 3)]},
}
"""What a task can return in each serializer."""


class Rejected(Exception):
    """An application's own exception."""


class TwoArguments(Exception):
    """One that pickle cannot copy, since its arguments are not those that it was made of."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")


def make_app(broker: str, backend: str, **settings: Any) -> Celery:
    """Return an application with all the tasks, which is not the process's current one."""
    registry.enable("pickle")  # type: ignore[no-untyped-call]  # kombu has no types
    app = Celery("tests", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        task_serializer="pickle",
        accept_content=["json", "pickle", "msgpack", "yaml"],
        broker_connection_retry_on_startup=False,
        broker_transport_options={"visibility_timeout": 3600},
        result_backend_thread_safe=True,  # one backend, which can be closed
        result_chord_retry_interval=0.05,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=True,
    )
    app.conf.update(settings)
    for function, options in TASKS:
        app.task(name=f"tests.{function.__name__}", **options)(function)
    return app


def add(x: int, y: int) -> int:
    return x + y


def total(numbers: list[int]) -> int:
    return sum(numbers)


def charge(order: int) -> str:
    return f"for {order}"


def rich(self: Task) -> Any:
    return VALUES[self.app.conf.result_serializer]


def nothing() -> None:
    return None


def fail() -> None:
    raise ValueError("boom", 42)


def fail_own() -> None:
    raise Rejected("no", 1)


def fail_nested() -> None:
    try:
        try:
            raise KeyError("missing")
        except KeyError as exc:
            raise ValueError("not found") from exc
    except ValueError as exc:
        raise RuntimeError("gave up") from exc


def fail_unpicklable() -> None:
    raise TwoArguments(7, "detail")


class Reading(pydantic.BaseModel):
    value: int


def fail_validation() -> None:
    Reading(value="seven")  # type: ignore[arg-type]  # on purpose


def fail_http() -> None:
    error = urllib.error.HTTPError("http://example.org", 404, "Not Found", Message(), None)
    error.close()  # it holds a file, which nobody needs
    raise error


def fail_together() -> None:
    """Let tasks of an event loop fail together, one of which has tasks of its own."""

    async def raises(exc: Exception) -> None:
        raise exc

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(raises(KeyError("k")))
            group.create_task(raises(TypeError("t")))

    async def outer() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(raises(Rejected("no", 1)))
            group.create_task(raises(ValueError("boom", 42)))
            await inner()

    asyncio.run(outer())


def model() -> Reading:
    return Reading(value=7)


def custom(self: Task) -> None:
    self.update_state(state="HALFWAY", meta={"done": 5, "of": 10})
    raise Ignore


def retry_later(self: Task) -> None:
    raise self.retry(exc=Rejected("try again"), countdown=3600)


def retry_once(self: Task) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return f"after {self.request.retries}"


def say(name: int, count: int) -> int:
    return max(emit([name, number]) for number in range(count))


def say_and_retry(self: Task) -> str:
    emit("a")
    if self.request.retries == 0:
        emit("b")
        raise self.retry(countdown=0)
    return f"after {self.request.retries}"


def parent(self: Task) -> str:
    with self.app.connection_for_write() as connection:
        self.app.tasks["tests.add"].apply_async((1, 1), connection=connection)
    return "parent"


def spawning(self: Task, ours: bool) -> tuple[str, str]:
    """Publish a task from within this one, by Celery itself or from an event loop, and return the ids of both."""
    lineage = self.app.tasks["tests.lineage"]
    if not ours:
        return self.request.id, lineage.apply_async().id

    async def spawn() -> str:
        return (await apply_async(lineage)).id

    return self.request.id, asyncio.run(spawn())


def lineage(self: Task) -> list[Any]:
    request = self.request
    return [request.parent_id, request.root_id, request.delivery_info["priority"]]


def ignoring() -> int:
    return 1


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def progress(self: Task, steps: int) -> int:
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"current": step, "total": steps})
    return steps


def unstorable() -> object:
    return object()


def within_a_loop(self: Task) -> str:
    """Run an event loop, as tasks do that call asynchronous code, and report progress from inside it."""

    async def work() -> None:
        self.update_state(state="PROGRESS", meta={"in": "a loop"})

    asyncio.run(work())
    return "done"


def pid() -> int:
    return os.getpid()


def hold(self: Task, steps: int, until: str | None = None) -> str:
    """Report a state, and then take ``steps`` pauses of a tenth of a second, or fewer if the file ``until`` appears."""
    self.update_state(state="HOLDING", meta={"pid": os.getpid()})
    for _ in range(steps):
        time.sleep(0.1)
        if until is not None and Path(until).exists():
            break
    return "held"


def hold_late(self: Task, steps: int, until: str | None = None) -> str:
    return hold(self, steps, until)


def say_and_hold(self: Task, steps: int, until: str | None = None) -> str:
    emit("begun")
    return hold(self, steps, until)


def work_until_aborted(self: Task, steps: int, then: str) -> str:
    """Work until it is aborted, and then end in the way that ``then`` says."""
    emit("begun")
    for _ in range(steps):
        if self.is_aborted():
            emit("aborted")
            if then == "ignore":
                raise Ignore
            if then == "fail":
                raise ValueError("aborted")
            return "aborted"
        time.sleep(0.01)
    return "done"


TASKS: list[tuple[Any, dict[str, Any]]] = [
    (add, {}),
    (total, {}),
    (charge, {}),
    (rich, {"bind": True}),
    (nothing, {}),
    (fail, {}),
    (fail_own, {}),
    (fail_nested, {}),
    (fail_unpicklable, {}),
    (fail_validation, {}),
    (fail_http, {}),
    (fail_together, {}),
    (model, {}),
    (custom, {"bind": True}),
    (retry_later, {"bind": True}),
    (retry_once, {"bind": True, "default_retry_delay": 0}),
    (say, {}),
    (say_and_retry, {"bind": True, "default_retry_delay": 0}),
    (parent, {"bind": True}),
    (spawning, {"bind": True}),
    (lineage, {"bind": True}),
    (ignoring, {"ignore_result": True}),
    (sleep, {}),
    (progress, {"bind": True}),
    (unstorable, {}),
    (within_a_loop, {"bind": True}),
    (pid, {}),
    (hold, {"bind": True}),
    (hold_late, {"bind": True, "acks_late": True}),
    (say_and_hold, {"bind": True}),
    (work_until_aborted, {"bind": True, "base": AbortableTask}),
]

if ENVIRONMENT in os.environ:
    app = make_app(**json.loads(os.environ[ENVIRONMENT]))

    @worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
    def use_results_before_the_pool_is_forked(**_: Any) -> None:
        if type(app.backend).__module__.startswith("aioresult"):
            app.backend.task_result_exists("nobody")

    @worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
    def tell_that_it_is_ready(**_: Any) -> None:
        os.write(int(os.environ[READY]), b"!")
