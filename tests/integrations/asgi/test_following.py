"""States and items that are told in one turn of the loop, faster than a client takes them."""

from __future__ import annotations

import asyncio

from aioresult import Backend, Record
from aioresult.integrations.asgi.following import StreamFollower
from aioresult.stream import News, now
from tests.integrations.asgi.web import until


async def test_a_state_is_given_behind_the_items_that_were_told_before_it(memory: Backend) -> None:
    runtime = memory._runtime
    hub, codec = runtime.hub, runtime.store.codec
    deadline = runtime.loop.time() + 60
    source = StreamFollower(runtime, "task", 0, None)
    first = asyncio.create_task(source.step(deadline))
    try:
        await until(lambda: memory.stats().watched)
        await memory.append("task", 1)  # a place to begin at, after which nothing has to be looked for
        assert [item.value for item in await first] == [1]  # type: ignore[union-attr]  # an item, and no record
        for number in range(2, 8):
            hub.tell("task", News(number, [codec.encode_item("task", number, now(), 0)]))
            if number % 2:
                hub.deliver("task", Record(id="task", status="PROGRESS", result=number))
        given: list[object] = []
        while len(given) < 9:
            found = await source.step(deadline)
            given += [found.status] if isinstance(found, Record) else [item.value for item in found]
    finally:
        source.close()
    assert given == [2, 3, "PROGRESS", 4, 5, "PROGRESS", 6, 7, "PROGRESS"]
