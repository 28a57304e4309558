"""What is sent to all workers reaches those that are meant, blocks nobody, and ends where there is no broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from celery.result import AsyncResult as CelerysResult
from celery.result import GroupResult as CelerysGroup

from aioresult import AioResultError, AsyncResult, GroupResult, InvalidTaskId, sync
from aioresult.integrations.celery import (
    BrokerUnavailable,
    apply_async,
    backend_from_app,
    revoke,
    revoke_by_stamped_headers,
)
from aioresult.integrations.celery.broker import Answers, hand_over
from aioresult.testing.conformance import eventually
from tests.integrations.celery.conftest import broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer
from tests.servers.process import HOST

WAIT = 30.0
REPLY: dict[str, Any] = {"reply": True, "timeout": WAIT, "limit": 1}


@pytest.fixture(scope="module")
def worker(celery_redis: RedisServer) -> Iterator[Worker]:
    """A worker that executes tasks and commands one after the other."""
    with Worker(**broker_settings(celery_redis, "broadcasting-"), backend=celery_redis.url) as worker:
        yield worker


@pytest.fixture
def app(worker: Worker) -> Iterator[Celery]:
    with application(**worker.settings) as app:
        yield app


class TestReaches:
    async def test_the_workers_of_the_results_application(self, app: Celery) -> None:
        ids = [str(uuid4()) for _ in range(9)]
        backend = sync.Backend("memory://")
        tasks: list[Any] = [
            ids[0],
            UUID(ids[1]),
            AsyncResult(ids[2]),
            GroupResult("ours", [AsyncResult(ids[3]), GroupResult("inner", [AsyncResult(ids[4])])]),
            CelerysResult(ids[5], app=app),
            CelerysGroup("celerys", [CelerysResult(ids[6], app=app)], app=app),
            sync.AsyncResult(ids[7], backend),
            sync.GroupResult("blocking", [sync.AsyncResult(ids[8], app=app)]),
        ]
        replies = await revoke(tasks, **REPLY)
        assert replies is not None
        said = str(replies)
        assert all(task_id in said for task_id in ids)
        assert not any(group_id in said for group_id in ("ours", "inner", "celerys", "blocking"))

    def test_the_workers_of_the_current_application_else(self, app: Celery) -> None:
        replies: list[Any] = []

        def tell() -> None:  # in a thread that is left behind with its current application
            app.set_current()
            replies.append(asyncio.run(revoke("by-id", **REPLY)))
            replies.append(asyncio.run(revoke_by_stamped_headers({"customer": "nobody"}, **REPLY)))

        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
        assert ["by-id" in str(replies[0]), "customer" in str(replies[1])] == [True, True]

    async def test_only_the_workers_that_are_named(self, app: Celery) -> None:
        replies = await revoke("t", app=app, **REPLY)
        assert replies is not None
        assert await revoke("t", list(replies[0]), app=app, reply=True, timeout=WAIT), "its reply is the only one"
        assert await revoke("t", ["nobody@nowhere"], app=app, reply=True, timeout=0.1) == []

    async def test_nobody_where_it_is_not_clear_who_is_meant(self, app: Celery, worker: Worker) -> None:
        with application(**worker.settings) as other:
            results = [CelerysResult(task_id, app=known) for task_id, known in (("a", app), ("b", other))]
            with pytest.raises(AioResultError, match="different Celery applications"):
                await revoke(results)
        with pytest.raises(TypeError, match="names of workers in a list, not 'celery@one'"):
            await revoke("t", "celery@one", app=app)
        with pytest.raises(InvalidTaskId):
            await revoke(["t", 7], app=app)  # type: ignore[list-item]  # what is tested


class TestKeepsNobody:
    async def test_from_publishing_while_it_waits_for_replies(self, app: Celery, tmp_path: Path) -> None:
        async with backend_from_app(app) as backend:
            running = await apply_async(app.tasks["tests.hold"], (300, str(tmp_path / "go on")), backend=backend)
            assert isinstance(running, AsyncResult)
            async for record in running.updates(timeout=WAIT):
                if record.status == "HOLDING":
                    break
            revoking = [asyncio.create_task(revoke(str(n), app=app, **REPLY)) for n in range(8)]
            await asyncio.sleep(0)
            result = await apply_async(app.tasks["tests.add"], (1, 2), timeout=WAIT / 2, backend=backend)
            assert not any(task.done() for task in revoking), "the worker is still busy"
            (tmp_path / "go on").touch()
            assert all(await asyncio.gather(*revoking))
            assert await result.get(timeout=WAIT) == 3

    async def test_else_in_the_loop_from_going_on(self, silent_broker: str) -> None:
        with application(broker=silent_broker, backend=None) as app:
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    await asyncio.sleep(0.001)
                    turns += 1

            counting = asyncio.create_task(count())
            with pytest.raises(BrokerUnavailable, match=r"did not take it within 0\.3 s; whether it is sent") as caught:
                await revoke(["a", "b"], app=app, publish_timeout=0.3)
            counting.cancel()
            assert turns > 5
            assert "revoking 2 tasks: the broker at redis://" in str(caught.value)
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("used", [False, True], ids=["from the start", "after it was used"])
async def test_is_given_up_where_the_broker_is_down_and_works_when_it_is_back(used: bool, reply: bool) -> None:
    with RedisServer(password="secret") as broker, application(broker=broker.url, backend=None) as app:
        if used:
            assert await revoke("t", app=app, reply=reply, timeout=0.1) == ([] if reply else None)
        broker.stop()
        with pytest.raises(BrokerUnavailable) as caught:
            await revoke("t", app=app, reply=reply, timeout=0.1, publish_timeout=WAIT)
        text = str(caught.value)
        assert f"revoking task 't': the broker at redis://{HOST}:{broker.port}/0 cannot be reached" in text
        assert "it was not sent" in text
        assert "secret" not in text
        broker.start()
        assert await revoke("t", app=app, reply=reply, timeout=0.1) == ([] if reply else None)


async def test_is_given_up_where_the_broker_goes_while_replies_are_awaited() -> None:
    with RedisServer() as broker, application(broker=broker.url, backend=None) as app:
        revoking = asyncio.create_task(revoke("t", app=app, reply=True, timeout=WAIT))

        async def waits_for_replies() -> bool:
            return "cmd=brpop" in str(broker.call("CLIENT", "LIST"))

        await eventually(waits_for_replies)
        broker.stop()
        with pytest.raises(BrokerUnavailable, match=r"cannot be reached: .*; it was sent, but its answers are lost"):
            await revoking


async def test_is_given_up_where_the_broker_answers_and_then_falls_silent(app: Celery) -> None:
    answers, silent = Answers(0.05), threading.Event()

    def call() -> bool:
        answers.note()
        return silent.wait(WAIT)

    with pytest.raises(BrokerUnavailable, match="has fallen silent; it was sent, but its answers are lost"):
        await hand_over(app, "telling workers", call, 0.05, answers)
    silent.set()
