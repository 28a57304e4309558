"""Streams over connections that are cut again and again: every item is stored once, and reaches each reader once."""

from __future__ import annotations

import asyncio
import random

import pytest

from aioresult import Backend, StoreUnavailable
from aioresult.stream import Append
from aioresult.testing.streams import read
from tests.servers import TcpProxy

PRODUCERS = 3
ITEMS = 60
READERS = 4
STORES = {"redis": 40, "mongo": 80, "mongo_standalone": 80, "postgres": 250, "mariadb": 250}
"""After how many pieces of data at most all connections are cut: a database says much until one is open."""


def through(proxy: TcpProxy) -> str:
    """Return the URL that leads through the proxy, and not from there to the members of a replica set."""
    url = proxy.url
    return f"{url}{'&' if '?' in url else '?'}directConnection=true" if url.startswith("mongodb") else url


async def append_surely(backend: Backend, append: Append) -> int:
    """Append as a runner does: again after an outage, and say that some of it may have been stored."""
    while True:
        try:
            return await backend._put_items(append)
        except StoreUnavailable:
            append.repeated = True


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(store: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{store}_url"))


async def test_nothing_is_lost_repeated_or_out_of_order(store: str, url: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def produce(backend: Backend, name: int) -> list[int]:
        numbers = []
        for number in range(ITEMS):
            numbers.append(await append_surely(backend, backend._encode_items("t", [[name, number]])))
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
        return numbers

    async with TcpProxy(url) as proxy, Backend(url) as sure, Backend(through(proxy), idle_timeout=0.05) as shaky:
        await asyncio.gather(sure.ping(), shaky.ping())
        readers = [asyncio.create_task(read(backend, "t")) for backend in (shaky, sure) for _ in range(READERS)]
        proxy.cut_after(lambda: chance.randint(1, STORES[store]))
        numbers = await asyncio.gather(*(produce(shaky, name) for name in range(PRODUCERS)))
        proxy.cut_after(None)
        print(f"cuts {proxy.cuts}")
        assert proxy.cuts > 0
        assert await sure.mark_as_done("t", None)
        found = await asyncio.gather(*readers)
        assert await read(sure, "t") == found[0]
    assert [seq for seq, _ in found[0]] == list(range(1, PRODUCERS * ITEMS + 1))
    assert all(each == found[0] for each in found)
    for name in range(PRODUCERS):
        own = [(seq, value[1]) for seq, value in found[0] if value[0] == name]
        assert own == list(zip(numbers[name], range(ITEMS), strict=True))
