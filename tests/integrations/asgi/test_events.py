"""Server-sent events: what a browser sees of a task, and that it goes on wherever it was interrupted."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp, events
from aioresult.stores.memory import MemoryStore
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import Browser, Seen, Serving, seen_in, until


async def test_states_progress_and_items_come_in_their_order(backend: Backend, browse: Open, serving: Serving) -> None:
    browser = await browse(ResultsApp(backend, PUBLIC), serving)
    async with browser.opened("/task/events") as response, aclosing(seen_in(response)) as events:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        seen = []
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: backend.mark_as_started("task", note="begun"),
            lambda: backend.append("task", "one"),
            lambda: backend.update_state("task", "PROGRESS", {"current": 1}),
            lambda: backend.append("task", {"two": 2}),
            lambda: backend.mark_as_done("task", [3]),
        ]
        for step in steps:
            await step()
            seen.append(await anext(events))
        assert [event async for event in events] == []
    assert [(event.event, event.data) for event in seen] == [
        ("state", {"status": "STARTED", "result": {"note": "begun"}}),
        ("item", "one"),
        ("progress", {"status": "PROGRESS", "result": {"current": 1}}),
        ("item", {"two": 2}),
        ("end", {"status": "SUCCESS", "result": [3]}),
    ]


@pytest.mark.all_loops
async def test_what_comes_in_one_turn_of_the_loop_keeps_its_order(memory: Backend, browser: Browser) -> None:
    async with browser.opened("/task/events") as response:
        await until(lambda: memory.stats().watched)
        writes: list[Any] = []
        for number in range(1, 6):
            writes += [memory.append("task", number), memory.update_state("task", "PROGRESS", number)]
        await asyncio.gather(*writes)
        await memory.mark_as_done("task", None)
        seen = [(event.event, event.data) async for event in seen_in(response)]
    assert [data for name, data in seen if name == "item"] == [1, 2, 3, 4, 5]
    assert [data["result"] for name, data in seen if name == "progress"][-1] == 5
    assert seen[-1] == ("end", {"status": "SUCCESS", "result": None})


@pytest.mark.parametrize("cut", range(4))
async def test_an_interrupted_stream_goes_on_behind_each_event(backend: Backend, browse: Open, cut: int) -> None:
    browser = await browse(ResultsApp(backend, PUBLIC))
    await backend.append("task", "a", "b")
    await backend.update_state("task", "PROGRESS", 50)
    before: list[Seen] = []
    if cut:
        async with browser.opened("/task/events") as response, aclosing(seen_in(response)) as events:
            before = [await anext(events) for _ in range(cut)]
    last = before[-1].id if before else None
    await backend.append("task", "c")
    await backend.mark_as_done("task", "ready")
    after = await browser.all("/task/events", last)
    assert [event.data for event in before + after if event.event == "item"] == ["a", "b", "c"]
    assert sum(event.event == "progress" for event in before + after) == (cut == 3), "PROGRESS is over by then"
    assert [event.event for event in after].count("end") == 1
    over = await browser.client.get("/task/events", headers={"Last-Event-ID": after[-1].id})
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.slow
async def test_a_browser_that_is_cut_off_again_and_again_misses_nothing_on_either_server(
    url: str, browse: Open
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with Backend(url) as one, Backend(url) as other, Backend(url) as producer:
        browsers = [await browse(ResultsApp(backend, PUBLIC)) for backend in (one, other)]

        async def produce() -> None:
            for number in range(1, 121):
                await producer.append("task", number)
                if number % 7 == 0:
                    await producer.update_state("task", "PROGRESS", number)
            await producer.mark_as_failure("task", ValueError("no more"))

        producing = asyncio.create_task(produce())
        seen: list[Seen] = []
        while not seen or seen[-1].event != "end":
            browser = dice.choice(browsers)
            async with (
                browser.opened("/task/events", seen[-1].id if seen else None) as response,
                aclosing(seen_in(response)) as events,
            ):
                assert response.status_code == 200
                for _ in range(dice.randint(1, 20)):
                    if (event := await anext(events, None)) is None:
                        break
                    seen.append(event)
        await producing
        await until(lambda: not one.stats().waiting and not other.stats().waiting)
    assert [event.data for event in seen if event.event == "item"] == list(range(1, 121))
    progress = [event.data["result"] for event in seen if event.event == "progress"]
    assert progress == sorted(set(progress)), "no state twice, and none after a later one"
    assert seen[-1].data == {"status": "FAILURE", "error": {"type": "ValueError", "message": "no more"}}


async def test_a_state_that_was_seen_is_not_sent_again(memory: Backend, browser: Browser) -> None:
    await memory.update_state("task", "PROGRESS", {"page": 1})
    async with browser.opened("/task/events") as response, aclosing(seen_in(response)) as events:
        first = await anext(events)
    async with browser.opened("/task/events", first.id) as response, aclosing(seen_in(response)) as events:
        await until(lambda: memory.stats().watched and memory.stats().waiting)
        await memory.append("task", "next")
        assert (await anext(events)).event == "item"


async def test_a_number_of_an_item_is_a_cursor_and_the_header_counts_more(memory: Backend, browser: Browser) -> None:
    await memory.append("task", "a", "b", "c")
    await memory.mark_as_done("task", None)
    assert [event.data for event in await browser.all("/task/events?after=2")][:1] == ["c"]
    assert [event.data for event in await browser.all("/task/events?after=1", "2")][:1] == ["c"]
    assert [event.data for event in await browser.all("/task/events?after=", "")][:1] == ["a"]


@pytest.mark.parametrize("cursor", ["-1", "x", "1-", "1-END", "1e3", "\u0661", "9" * 40, "1-end\tx", "1 -end"])
async def test_a_cursor_that_is_none_is_a_bad_request(browser: Browser, cursor: str) -> None:
    answer = await browser.client.get("/task/events", params={"after": cursor})
    assert answer.status_code == 400
    assert "is no cursor" in answer.json()["error"]["message"]


async def test_a_stream_that_is_gone_is_gone_and_starts_nothing(memory: Backend, browser: Browser) -> None:
    await memory.append("task", "a", "b")
    await memory.update_state("task", "PROGRESS", 1)
    async with browser.opened("/task/events") as response, aclosing(seen_in(response)) as events:
        seen = [await anext(events) for _ in range(3)]
    await memory.forget("task")
    for event in seen:
        answer = await browser.client.get("/task/events", headers={"Last-Event-ID": event.id})
        assert answer.status_code == 410
        assert answer.json()["error"]["type"] == "StreamGap"
    assert (await memory.fetch("task")).status == "PENDING"


async def test_states_that_are_gone_are_gone_too(memory: Backend, browser: Browser) -> None:
    await memory.update_state("task", "PROGRESS", 1)
    async with browser.opened("/task/events") as response, aclosing(seen_in(response)) as events:
        seen = await anext(events)
    await memory.forget("task")
    assert (await browser.client.get("/task/events", headers={"Last-Event-ID": seen.id})).status_code == 410


async def test_a_cursor_in_front_of_what_was_trimmed_is_gone_and_says_where_to_go_on(browse: Open) -> None:
    async with Backend("memory://", stream_max_items=3, stream_trim=True) as backend:
        browser = await browse(ResultsApp(backend, PUBLIC))
        for number in range(1, 11):
            await backend.append("task", number)
        answer = await browser.client.get("/task/events?after=2")
        assert answer.status_code == 410
        first = answer.json()["error"]["first"]
        await backend.mark_as_done("task", None)
        seen = await browser.all(f"/task/events?after={first - 1}")
        assert [event.data for event in seen if event.event == "item"] == [8, 9, 10]
        fresh = await browser.all("/task/events")
    assert (fresh[-1].event, fresh[-1].data["error"]["type"], fresh[-1].data["error"]["first"]) == (
        "end",
        "StreamGap",
        8,
    )


class Unspeakable:
    """A value without a form in JSON."""


async def test_a_value_without_a_form_in_json_does_not_end_the_stream(browse: Open) -> None:
    async with Backend("memory://", result_serializer="pickle", accept_content=["pickle"]) as backend:
        browser = await browse(ResultsApp(backend, PUBLIC))
        await backend.append("task", 1, Unspeakable(), {(1, 2): 3}, "\ud800", float("nan"), {1: {2}}, "last")
        await backend.mark_as_done("task", Unspeakable())
        seen = await browser.all("/task/events")
        snapshot = (await browser.client.get("/task")).json()
    assert [event.event for event in seen] == [
        "item", "unreadable", "unreadable", "unreadable", "item", "item", "item", "end",
    ]  # fmt: skip
    assert "type Unspeakable has no form in JSON" in seen[1].data["error"]["message"]
    assert [event.data for event in seen if event.event == "item"] == [1, None, {"1": [2]}, "last"]
    assert seen[-1].data["status"] == "SUCCESS"
    assert seen[-1].data["error"]["type"] == snapshot["error"]["type"] == "EncodeError"


async def test_lines_and_nul_in_values_stay_in_the_values(memory: Backend, browser: Browser) -> None:
    evil = "a\nevent: end\rdata: x\r\n\r\nid: 7\0\u2028\u0085"
    await memory.append("task", evil)
    await memory.update_state("task", evil, {evil: evil})
    await memory.store_result("task", RuntimeError(evil), "FAILURE")
    seen = await browser.all("/task/events")
    assert [event.event for event in seen] == ["item", "end"]
    assert seen[0].data == evil
    assert seen[1].data["error"]["message"] == evil


async def test_idle_streams_get_a_heartbeat_and_browsers_are_told_when_to_come_back(
    memory: Backend, browse: Open
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, heartbeat=0.01, retry=0.5))
    async with browser.opened("/task/events") as response:
        lines = response.aiter_lines()
        start = [await anext(lines) for _ in range(9)]
    assert start[1:3] == ["retry: 500", ""]
    assert start[3:] == [": ", ""] * 3


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["heartbeat", "retry"])
async def test_seconds_that_would_send_without_end_or_never_are_refused(
    memory: Backend, name: str, seconds: float
) -> None:
    makers: list[Callable[..., Any]] = [
        partial(ResultsApp, memory, PUBLIC),
        partial(events, memory.AsyncResult("task")),
    ]
    for make in makers:
        with pytest.raises(ValueError, match=f"{name} is a .*number of seconds"):
            make(**{name: seconds})


@pytest.mark.parametrize("arguments", [{"max_wait": -1}, {"max_wait": math.nan}, {"send_timeout": 0}])
async def test_other_seconds_are_checked_too(memory: Backend, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        ResultsApp(memory, PUBLIC, **arguments)


async def test_proxies_are_told_to_hold_nothing_back(browser: Browser) -> None:
    async with browser.opened("/task/events") as response:
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-length" not in response.headers


async def test_a_client_that_leaves_frees_its_waiter(backend: Backend, browse: Open, serving: Serving) -> None:
    browser = await browse(app := ResultsApp(backend, PUBLIC), serving)
    async with browser.opened("/one/events"), browser.opened("/two/events"), browser.opened("/two/events"):
        await until(lambda: backend.stats().waiting == 2)
        assert app.open_streams == 3
    await until(lambda: backend.stats().waiting == 0)
    await until(lambda: app.open_streams == 0)


async def test_failures_tell_type_and_message_and_the_traceback_only_where_asked_for(
    memory: Backend, browser: Browser, browse: Open
) -> None:
    try:
        raise KeyError("secret place")
    except KeyError as exc:
        await memory.mark_as_failure("task", exc)
    (end,) = await browser.all("/task/events")
    assert end.data == {"status": "FAILURE", "error": {"type": "KeyError", "message": "'secret place'"}}
    assert "Traceback" not in (await browser.client.get("/task")).text
    open_browser = await browse(ResultsApp(memory, PUBLIC, tracebacks=True))
    (end,) = await open_browser.all("/task/events")
    assert "Traceback" in end.data["error"]["traceback"]


async def test_what_cannot_be_read_is_said(memory: Backend, browser: Browser) -> None:
    store = memory._runtime.store
    assert isinstance(store, MemoryStore)
    await memory.append("task", 1)
    await memory.mark_as_done("task", 2)
    store._space.items["task"].payload = b"{not json"
    item, end = await browser.all("/task/events")
    assert item.data == 1
    assert end.data["error"]["type"] == "DecodeError"


async def test_head_tells_the_headers_and_waits_for_nothing(browser: Browser) -> None:
    answer = await browser.client.head("/task/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b""


async def test_head_answers_as_get_would_where_there_are_no_events(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, unknown="missing"))
    await memory.mark_as_done("task", 1)
    for path, status in (("/task/events", 200), ("/task/events?after=7", 410), ("/nobody/events", 404)):
        head, get = await browser.client.head(path), await browser.client.get(path)
        assert (head.status_code, head.content, get.status_code) == (status, b"", status)
