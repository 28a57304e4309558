"""Which pages are those of the site itself: only they may open WebSockets and stop tasks."""

from __future__ import annotations

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from aioresult.integrations.asgi.origins import is_own
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.test_websockets import address

BY_TLS = {"X-Forwarded-Proto": "https"}
"""What a proxy that ends TLS says; uvicorn believes those on its own host."""


@pytest.mark.parametrize(("page", "status"), [("http", 403), ("https", 200)])
async def test_a_page_without_tls_stops_nothing_where_the_site_has_it(
    memory: Backend, browse: Open, page: str, status: int
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, PUBLIC))
    await memory.update_state("task", "PROGRESS", 1)
    headers = {"Host": "site.example", "Origin": f"{page}://site.example"}
    assert (await browser.client.post("/task/revoke", headers={**headers, **BY_TLS})).status_code == status
    assert (await memory.fetch("task")).status == ("REVOKED" if status == 200 else "PROGRESS")


async def test_a_page_without_tls_opens_no_socket_where_the_site_has_it(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC))
    await memory.mark_as_done("task", 1)
    secure, plain = (str(browser.client.base_url.copy_with(scheme=scheme)).rstrip("/") for scheme in ("https", "http"))
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address(browser, "/task"), origin=Origin(plain), additional_headers=BY_TLS, proxy=None):
            pass
    assert refused.value.response.status_code == 403
    async with connect(
        address(browser, "/task"), origin=Origin(secure), additional_headers=BY_TLS, proxy=None
    ) as socket:
        await socket.wait_closed()
    assert socket.close_code == 1000


@pytest.mark.parametrize("page", ["http", "https"])
async def test_behind_a_proxy_that_does_not_say_that_it_ends_tls_both_pages_are_the_sites(
    memory: Backend, browse: Open, page: str
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, PUBLIC))
    headers = {"Host": "site.example", "Origin": f"{page}://site.example"}
    assert (await browser.client.post("/task/revoke", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("https://site.example", "site.example:443", "https"),
        ("https://site.example", "site.example:443", "http"),
        ("http://site.example", "site.example:80", "http"),
        ("https://site.example:8443", "site.example:8443", "wss"),
        ("https://site.example", "Site.Example", "https"),
        ("http://[::1]:8000", "[::1]:8000", "ws"),
    ],
)
def test_an_origin_is_the_sites_own_whichever_way_its_host_is_written(origin: str, host: str, scheme: str) -> None:
    assert is_own(origin, host, scheme)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://site.example", "site.example", "wss"),
        ("https://site.example", "site.example:80", "http"),
        ("https://site.example", "site.example:8443", "https"),
        ("https://site.example:8443", "site.example", "https"),
        ("https://www.site.example", "site.example", "https"),
        ("capacitor://site.example", "site.example", "https"),
        ("https://", "", "https"),
        ("https://site.example", "", "https"),
        ("https://site.example:99999", "site.example:99999", "https"),
        ("https://site.example", "[", "https"),
        ("null", "null", "http"),
    ],
)
def test_an_origin_with_another_scheme_host_or_port_is_another_sites(origin: str, host: str, scheme: str) -> None:
    assert not is_own(origin, host, scheme)
