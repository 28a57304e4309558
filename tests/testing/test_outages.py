"""``FaultyStore`` keeps its promise: while it is down, every call fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aioresult import Record, StoreUnavailable
from aioresult.abc import Store
from aioresult.stream import Append, Cursor
from aioresult.testing import FaultyStore

CALLS: dict[str, Callable[[FaultyStore], Awaitable[Any]]] = {
    "get_many": lambda store: store.get_many(["a"]),
    "put_many": lambda store: store.put_many([Record(id="a", status="SUCCESS")]),
    "delete_many": lambda store: store.delete_many(["a"]),
    "append_many": lambda store: store.append_many([Append("a", [b"item"])]),
    "read_many": lambda store: store.read_many([Cursor("a", 0, 1)]),
    "renew_lease": lambda store: store.renew_lease("runner", 1),
    "end_lease": lambda store: store.end_lease("runner"),
    "ended_leases": lambda store: store.ended_leases(["runner"]),
    "feed": lambda store: store.feed(),
    "purge": lambda store: store.purge(),
    "ping": lambda store: store.ping(),
    "put_group": lambda store: store.put_group("group", (("group", None), None)),
    "get_group": lambda store: store.get_group("group"),
    "delete_group": lambda store: store.delete_group("group"),
}


def test_every_call_of_a_store_is_tried_here() -> None:
    asked = {name for name, call in vars(Store).items() if inspect.iscoroutinefunction(call)}
    assert CALLS.keys() == asked - {"aclose", "capabilities"}  # which ask nobody


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_fails_while_the_store_is_down_and_succeeds_afterwards(name: str) -> None:
    store = FaultyStore()
    store.down = True
    with pytest.raises(StoreUnavailable, match="down on purpose"):
        await CALLS[name](store)
    store.down = False
    await CALLS[name](store)
