"""How URLs, settings and clients become connections to Redis, and which servers can be talked to."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from aioresult import AioResultError, Backend, Record, SettingsError, StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stores.redis import RedisStore
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.feed import RedisFeed
from aioresult.stores.redis.urls import from_url
from aioresult.testing.conformance import fresh_id
from tests.servers import RedisServer, TcpProxy
from tests.servers.redis import PROGRAM

CHECKED: dict[str, Any] = {"ssl_check_hostname": True}
"""What is asked for with TLS, since redis-py before 6.0 leaves it out unless it is told."""


class KnownCredentials(CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "default", "sesame"


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[RedisServer]:
    with RedisServer(password="sesame") as server:
        yield server


def options_of(url: str, **settings: Any) -> dict[str, Any]:
    return dict(from_url(url, make_settings(settings)).options)


def without_defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not name.startswith("socket_")}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://h:7/3", {"host": "h", "port": 7, "db": 3}),
        ("redis://h//3", {"host": "h", "port": 6379, "db": 3}),
        ("redis://h/?virtual_host=4", {"host": "h", "port": 6379, "db": 0}),
        ("redis://h/3?db=5", {"host": "h", "port": 6379, "db": 5}),
        ("redis://u%40x:p%2Fw@h", {"host": "h", "port": 6379, "db": 0, "username": "u@x", "password": "p/w"}),
        ("redis://:pw@h?client_name=me", {"host": "h", "port": 6379, "db": 0, "password": "pw", "client_name": "me"}),
        ("redis+unix:///run/r.sock?db=2", {"path": "/run/r.sock", "db": 2}),
        ("redis+socket:///run/r.sock?virtual_host=4", {"path": "/run/r.sock", "db": 4}),
        ("redis+unix://:pw@/run/r.sock", {"path": "/run/r.sock", "db": 0, "password": "pw"}),
        ("redis://h?client_name=me@here", {"host": "h", "port": 6379, "db": 0, "client_name": "me@here"}),
        ("redis://h?password=p@w", {"host": "h", "port": 6379, "db": 0, "password": "p@w"}),
        ("redis+unix:///run/me@here.sock", {"path": "/run/me@here.sock", "db": 0}),
        ("redis://h?max_connections=5&timeout=3", {"host": "h", "port": 6379, "db": 0}),
        ("rediss://h", CHECKED | {"host": "h", "port": 6379, "db": 0}),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=%2Fca.pem",
            {"host": "h", "port": 6379, "db": 0, "ssl_cert_reqs": "none", "ssl_ca_certs": "/ca.pem"},
        ),
    ],
)
def test_a_url_means_what_celery_and_redis_py_take_it_to_mean(url: str, expected: dict[str, Any]) -> None:
    assert without_defaults(options_of(url)) == expected


def test_settings_fill_in_where_the_url_is_silent() -> None:
    settings = {
        "redis_host": "set",
        "redis_port": 1,
        "redis_db": 2,
        "redis_username": "user",
        "redis_password": "word",
        "redis_client_name": "name",
    }
    filled = {"host": "set", "port": 1, "db": 2, "username": "user", "password": "word", "client_name": "name"}
    assert without_defaults(options_of("redis://", **settings)) == filled
    own = {"host": "h", "port": 9, "db": 8, "username": "u", "password": "p", "client_name": "n"}
    assert without_defaults(options_of("redis://u:p@h:9/8?client_name=n", **settings)) == own


def test_times_come_from_the_url_or_the_settings() -> None:
    def times(url: str, **settings: Any) -> tuple[float, float | None, float]:
        address = from_url(url, make_settings(settings))
        return address.connect_timeout, address.reply_timeout, address.probe_interval

    assert times("redis://") == (5.0, 120.0, 10.0)
    given = {"redis_socket_timeout": 7, "redis_socket_connect_timeout": 3, "redis_backend_health_check_interval": 0}
    assert times("redis://", **given) == (3.0, 7.0, 0.0)
    assert times("redis://?socket_timeout=8&socket_connect_timeout=2&health_check_interval=9", **given) == (2, 8, 9)


@pytest.mark.parametrize(
    ("use_ssl", "expected"),
    [
        ({"ssl_cert_reqs": ssl.CERT_NONE}, {"ssl_cert_reqs": "none"}),
        (
            {"ssl_cert_reqs": "CERT_REQUIRED", "ssl_ca_certs": "ca"},
            CHECKED | {"ssl_cert_reqs": "required", "ssl_ca_certs": "ca"},
        ),
        ({"ssl_cert_reqs": None}, {"ssl_cert_reqs": "none"}),
        ({"ssl_check_hostname": False}, {"ssl_check_hostname": False}),
        (True, CHECKED),
    ],
)
def test_tls_may_be_asked_for_by_celerys_setting(use_ssl: object, expected: dict[str, Any]) -> None:
    address = from_url("redis://h", make_settings({"redis_backend_use_ssl": use_ssl}))
    assert {name: value for name, value in address.options.items() if name.startswith("ssl_")} == expected
    assert address.encrypted


def test_certificates_are_verified_unless_told_otherwise() -> None:
    connection = from_url("rediss://h", make_settings({}))._make(3)
    assert isinstance(connection, SSLConnection)
    assert connection.cert_reqs == ssl.CERT_REQUIRED
    assert connection.check_hostname


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:secret@h:port/0", "cannot be understood"),
        ("redis://:secret@h/zero", "'zero'"),
        ("redis://:secret@h?db=minus", "'db'"),
        ("redis://:secret@h?socket_timeout=soon", "'socket_timeout'"),
        ("redis://:secret@h?colour=red", "colour"),
        ("redis://:secret@h?protocol=4", "2 or 3"),
        ("redis://:secret@h?ssl_cert_reqs=none", "rediss://"),
        ("rediss://:secret@h?ssl_cert_reqs=maybe", "maybe"),
        ("redis+unix://:secret@host/path", r"unix:///path"),
        ("redis+unix://", r"unix:///path"),
        ("redis+carrier-pigeon://:secret@h", "carrier-pigeon"),
        ("redis://:secret@h?credential_provider=no.such.module", "no.such.module"),
        ("redis://:secret@h?credential_provider=asyncio.Event", "CredentialProvider"),
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_at_once_and_not_quoted(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Backend(url)
    assert "secret" not in str(caught.value)


TORN = ["SEC\u2100RET", "SEC[RET", "SEC]RET", "12?SECRET", "12?SEC=RET", "12?db=1&SEC@RET", "12/SECRET", "/SECRET"]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel", "sentinel", "redis+unix"])
@pytest.mark.parametrize("password", [*TORN, "12/SEC?RET", "12#SECRET", "12#SEC/RET"])
def test_a_password_that_is_not_percent_encoded_is_told_of_and_never_shown(scheme: str, password: str) -> None:
    """What follows a ``/``, ``?`` or ``#`` looks like a path, an option or a fragment; it is not quoted as one."""
    for user in ("user", ""):
        with pytest.raises(SettingsError) as caught:
            Backend(f"{scheme}://{user}:{password}@host:26379/mymaster/0")
        shown = f"{caught.value} {caught.value.__cause__}"
        assert "the Redis URL cannot be understood" in shown
        assert "SEC" not in shown
        assert "RET" not in shown


def test_a_password_with_a_semicolon_is_not_taken_for_two_sentinels() -> None:
    with pytest.raises(SettingsError, match="cannot be understood"):
        Backend("sentinel://user:12;SECRET@host:26379/mymaster/0")


def test_settings_that_cannot_be_understood_are_refused_at_once() -> None:
    for settings in ({"redis_backend_use_ssl": "yes"}, {"redis_backend_credential_provider": 3}):
        with pytest.raises(SettingsError):
            Backend("redis://h", **settings)


async def test_no_credential_shows_in_places_and_representations(guarded_server: RedisServer) -> None:
    store = RedisStore(guarded_server.url, make_settings({}))
    await store.ping()
    feed = await store.open_feed()
    for shown in (store.location, repr(store), repr(store._address), repr(feed), repr(vars(store._link))):
        assert "sesame" not in shown
    assert store.location == f"127.0.0.1:{guarded_server.port}/0"
    await feed.aclose()
    await store.aclose()


@pytest.mark.parametrize(
    "provider",
    [
        UsernamePasswordCredentialProvider("default", "sesame"),
        f"{__name__}.KnownCredentials",
    ],
    ids=["instance", "dotted path"],
)
async def test_credentials_may_come_from_a_provider(guarded_server: RedisServer, provider: object) -> None:
    url = f"redis://someone:wrong@127.0.0.1:{guarded_server.port}/0"
    await works(RedisStore(url, make_settings({"redis_backend_credential_provider": provider})))
    if isinstance(provider, str):
        await works(RedisStore(f"{url}?credential_provider={provider}", make_settings({})))


# --- clients ---


async def test_a_client_is_followed_and_left_alone(redis_url: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True, client_name="mine") as client:
        async with Backend(client) as backend:
            task_id = fresh_id()
            waiting = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=30))
            await backend.store_result(task_id, 1, "SUCCESS")
            assert await waiting == 1
            location = backend._runtime.store.location
        assert await client.ping()
        assert redis_url == f"redis://{location}"
        pool = BlockingConnectionPool.from_url(redis_url, max_connections=3, timeout=1, health_check_interval=7)
        async with Redis.from_pool(pool) as blocking:
            store = RedisStore.from_client(blocking, make_settings({}))
            assert store._address.probe_interval == 7
            await works(store)


async def test_no_connection_looks_the_version_of_the_driver_up(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That reads a file, while the event loop waits."""

    def version(package: str) -> str:
        raise AssertionError(f"the version of {package} is looked up")

    monkeypatch.setattr(importlib.metadata, "version", version)
    await works(RedisStore(redis_url, make_settings({})))


@pytest.mark.filterwarnings("ignore:.*deprecated usage of input argument/s 'lib_name':DeprecationWarning")
async def test_a_connection_tells_what_the_url_says_about_the_driver(redis_url: str) -> None:
    async with Backend(f"{redis_url}?lib_name=mine&client_name=told") as backend:
        await backend.ping()
        with redis.Redis.from_url(redis_url) as client:
            (told,) = {each["lib-name"] for each in client.client_list() if each["name"] == "told"}
    assert told == "mine"


def test_a_blocking_client_is_refused() -> None:
    with redis.Redis() as client, pytest.raises(SettingsError, match=r"redis\.asyncio\.Redis"):
        RedisStore.from_client(client, make_settings({}))


# --- servers ---


async def works(store: RedisStore) -> RedisStore:
    """Write, read, subscribe and hear; then close."""
    done = Record(id=fresh_id(), status="SUCCESS", result="value")
    feed = await store.open_feed()
    events = aiter(feed)
    await feed.watch([done.id])
    assert (await anext(events))[0] == done.id
    assert await store.put_many([done]) == [True]
    task_id, record = await anext(events)
    assert (task_id, record and record.result) == (done.id, "value")
    assert (await store.get_many([done.id]))[done.id].result == "value"
    await feed.aclose()
    await store.aclose()
    return store


async def test_a_unix_socket_will_do(guarded_server: RedisServer) -> None:
    await works(RedisStore(guarded_server.unix_url, make_settings({})))
    refused = RedisStore(guarded_server.unix_url.replace("sesame", "wrongword"), make_settings({}))
    with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
        await refused.ping()
    assert "wrongword" not in str(caught.value)
    assert str(guarded_server.unix_socket) in str(caught.value)


class OldServer(RedisServer):
    """Stands for servers before 6.0: it does not know ``HELLO``, and quotes what it does not know."""

    def command(self) -> list[str]:
        return [*super().command(), "--rename-command", "HELLO", ""]


@pytest.mark.skipif("valkey" in os.environ.get(PROGRAM, ""), reason="there is no Valkey without RESP3")
async def test_a_server_without_resp3_is_talked_to_by_resp2() -> None:
    with OldServer(password="sesame") as server:
        for url in (server.url, server.unix_url):
            store = RedisStore(url, make_settings({}))
            capabilities = await store.capabilities()
            assert (capabilities.details["protocol"], capabilities.push) == ("RESP2", True)
            assert "RESP3" in capabilities.reason
            await works(store)
        refused = RedisStore(server.url.replace("sesame", "wrongword"), make_settings({}))
        with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
            await refused.ping()
        exc: BaseException | None = caught.value
        while exc is not None:
            assert "wrongword" not in str(exc)
            exc = exc.__cause__ or exc.__context__


async def test_a_database_other_than_the_first_has_its_own_keys_and_shares_the_channels(redis_url: str) -> None:
    """The documented weakness: an id that is used in two databases of one server is heard in both."""
    there = RedisStore(redis_url.removesuffix("/0") + "/3", make_settings({}))
    here, done = RedisStore(redis_url, make_settings({})), Record(id=fresh_id(), status="SUCCESS", result=1)
    feed = await here.open_feed()
    await feed.watch([done.id])
    await there.put_many([done])
    assert await here.get_many([done.id]) == {}
    events = [event async for event in feed_of(feed, 2)]
    assert [record and record.status for _, record in events] == ["PENDING", "SUCCESS"]
    await feed.aclose()
    await here.aclose()
    await there.delete_many([done.id])
    await there.aclose()


async def feed_of(feed: Any, count: int) -> Any:
    events = aiter(feed)
    for _ in range(count):
        yield await anext(events)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    extra = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *extra], check=True, capture_output=True)
    return key, certificate


@pytest.mark.all_loops
async def test_tls_is_spoken_and_verified(redis_url: str, certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with TcpProxy(redis_url, tls_context=context) as proxy:
        url = f"rediss://localhost:{proxy.port}/0"
        await works(RedisStore(f"{url}?ssl_ca_certs={cert}", make_settings({})))
        await works(RedisStore(f"{url}?ssl_cert_reqs=none", make_settings({})))
        use_ssl = {"ssl_ca_certs": str(cert), "ssl_cert_reqs": "CERT_REQUIRED"}
        await works(RedisStore(url.replace("rediss", "redis"), make_settings({"redis_backend_use_ssl": use_ssl})))
        unknown = RedisStore(url, make_settings({}))
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
            await unknown.ping()
        elsewhere = RedisStore(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={cert}", make_settings({}))
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
            await elsewhere.ping()


async def test_what_is_not_a_redis_is_told(unused_tcp_port: int) -> None:
    def answer_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for store in (from_port(port), from_port(unused_tcp_port)):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await store.ping()
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await store.open_feed()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("nonsense", [b"+OK\r\n", b"nonsense\r\n", b"*1\r\n+OK\r\n", b"-ERR unasked for\r\n"])
async def test_what_nobody_asked_for_ends_the_connection_and_nothing_else(redis_url: str, nonsense: bytes) -> None:
    store = RedisStore(redis_url, make_settings({}))
    feed = await store.open_feed()
    assert isinstance(feed, RedisFeed)
    await store.ping()
    for wire in (store._link._wire, feed._wire):
        assert wire is not None
        wire.get_buffer(-1)[: len(nonsense)] = nonsense
        wire.buffer_updated(len(nonsense))
    with pytest.raises(AioResultError, match=r"127\.0\.0\.1"):
        await anext(aiter(feed))
    await store.ping()
    await works(store)
    await feed.aclose()


def from_port(port: int) -> RedisStore:
    return RedisStore(f"redis://127.0.0.1:{port}/0", make_settings({}))


def test_an_address_can_be_shown() -> None:
    assert repr(from_url("redis://:pw@h:1/2", make_settings({}))) == "<Address h:1/2>"
    assert isinstance(from_url("redis://", make_settings({})), Address)
