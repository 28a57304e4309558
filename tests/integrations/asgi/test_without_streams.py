"""A store that keeps no streams: browsers see the states."""

from __future__ import annotations

from pathlib import Path

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from aioresult.settings import make_settings
from examples.directory_store import DirectoryStore
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import seen_in, until


async def test_states_and_the_end_are_sent(tmp_path: Path, browse: Open) -> None:
    async with Backend(DirectoryStore(f"directory://{tmp_path}", make_settings({}))) as backend:
        browser = await browse(ResultsApp(backend, PUBLIC, heartbeat=0.05))
        async with browser.opened("/task/events") as response:
            events = seen_in(response)
            await backend.update_state("task", "PROGRESS", 1)
            first = await anext(events)
            await backend.mark_as_done("task", 2)
            assert [(event.event, event.data["result"]) async for event in events] == [("end", 2)]
        assert (first.event, first.data["result"]) == ("progress", 1)
        rest = await browser.all("/task/events", first.id)
        assert [event.event for event in rest] == ["end"]
        assert (await browser.client.get("/task/events", headers={"Last-Event-ID": rest[0].id})).status_code == 204
        async with browser.opened("/other/events"):
            await until(lambda: backend.stats().waiting)
        await until(lambda: not backend.stats().waiting)
