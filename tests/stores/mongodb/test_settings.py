"""URLs and Celery's ``mongodb_backend_settings`` lead to the right place; errors say which, without telling secrets."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from aioresult import Backend
from aioresult.errors import AccessDenied, MissingDriver, SettingsError, StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stores.mongodb import MongoStore
from aioresult.stores.mongodb.clients import Target, target_of
from tests.servers import MongoReplicaSet, MongoServer
from tests.servers.process import free_port
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE

SECRET = "s3cr%20et"


def target(url: str, **mongodb: Any) -> Target:
    return target_of(url, make_settings({"mongodb_backend_settings": mongodb or None}))


# --- where ------------------------------------------------------------------------------------------------------------


def test_without_more_it_is_celerys_place_on_this_machine() -> None:
    it = target("mongodb://")
    assert (it.location, it.database, it.tasks, it.groups, it.motor) == (
        "mongodb://localhost/celery", "celery", "celery_taskmeta", "celery_groupmeta", False,
    )  # fmt: skip


def test_the_url_names_the_database() -> None:
    assert target("mongodb://h:1,h2:2/results?replicaSet=rs0").location == "mongodb://h:1,h2:2/results"


def test_the_dictionary_wins_over_the_url() -> None:
    it = target("mongodb://h/results", database="other", taskmeta_collection="t", groupmeta_collection="g")
    assert (it.location, it.tasks, it.groups) == ("mongodb://h/other", "t", "g")


@pytest.mark.parametrize(
    ("mongodb", "hosts"),
    [
        ({"host": "a"}, "a:27017"),
        ({"port": 5}, "localhost:5"),
        ({"host": "a", "port": 5}, "a:5"),
        ({"host": ["a:1", "b"], "port": 5}, "a:1,b:5"),
        ({"mongo_host": ["a:1", "b:2"]}, "a:1,b:2"),
        ({"host": "[::1]", "port": 5}, "[::1]:5"),
        ({"host": "mongodb://z:9/ignored"}, "z:9"),
    ],
)
def test_hosts_in_the_dictionary_replace_those_of_the_url_and_keep_its_credentials_and_options(
    mongodb: dict[str, Any], hosts: str
) -> None:
    it = target(f"mongodb://u:{SECRET}@x:1,y:2/results?appName=me", **mongodb)
    assert it.location == f"mongodb://{hosts}/results"
    if not str(mongodb.get("host")).startswith("mongodb://"):
        assert it.url == f"mongodb://u:{SECRET}@{hosts}/results?appName=me"


def test_user_password_and_options_reach_the_client() -> None:
    it = target("mongodb://h", user="u", password="p", options={"maxPoolSize": 7}, tls=True)
    assert {name: it.options[name] for name in ("username", "password", "maxPoolSize", "tls")} == {
        "username": "u", "password": "p", "maxPoolSize": 7, "tls": True,
    }  # fmt: skip


def test_timeouts_come_from_connect_timeout_unless_they_are_given() -> None:
    settings = make_settings({"connect_timeout": 2, "mongodb_backend_settings": {"options": {"connecttimeoutms": 9}}})
    options = target_of("mongodb://h/?serverSelectionTimeoutMS=77", settings).options
    assert "serverSelectionTimeoutMS" not in options
    assert "connectTimeoutMS" not in options
    assert options["connecttimeoutms"] == 9
    assert target_of("mongodb://h", make_settings({"connect_timeout": 2})).options["serverSelectionTimeoutMS"] == 2000


def test_there_are_three_connections_at_least_since_two_change_streams_keep_one_each() -> None:
    assert target("mongodb://h/?maxPoolSize=1").options["maxPoolSize"] == 3
    assert target("mongodb://h", maxPoolSize=2).options["maxPoolSize"] == 3
    assert "maxPoolSize" not in target("mongodb://h/?maxPoolSize=3").options
    assert target("mongodb://h").options["maxPoolSize"] == 10


@pytest.mark.parametrize(
    ("url", "driver_url", "motor"),
    [
        ("mongodb+motor://h/d", "mongodb://h/d", True),
        ("mongodb+srv://h/d", "mongodb+srv://h/d", False),
        ("mongodb+srv+motor://h/d", "mongodb+srv://h/d", True),
        ("mongodb+motor+srv://h/d", "mongodb+srv://h/d", True),
    ],
)
def test_the_scheme_chooses_the_driver_and_asks_nothing_of_the_network(url: str, driver_url: str, motor: bool) -> None:
    it = target(url)
    assert (it.url, it.motor, it.location) == (driver_url, motor, "mongodb://h/d")


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://user:pw/{SECRET}@host/db",
        f"mongodb://user:{SECRET}@:@host/db",
        f"mongodb://user:{SECRET}?x=1@host/db",
        f"mongodb://user:{SECRET}@host:port/db",
        f"mongodb://user:{SECRET}@host/db?replicaset",
        f"mongodb://user:{SECRET}@host/db?maxPoolSize=many",
        f"mongodb://user:{SECRET}@",
    ],
)
def test_a_malformed_url_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        target(url)
    assert "s3cr" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize("url", ["mongodb+other://h", "mongodb+srv+redis://h"])
def test_an_unknown_driver_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"mongodb\+motor"):
        target(url)


@pytest.mark.parametrize(
    ("mongodb", "message"),
    [
        ({"maxPoolsize": "many"}, "maxPoolsize"),
        ({"max_pool_size": 5}, "max_pool_size.*maxPoolSize|maxpoolsize"),
        ({"tlsCAFile": "/does/not/exist"}, "tlsCAFile"),
        ({"options": {"host": "x"}}, "host"),
    ],
)
def test_an_option_that_the_client_does_not_know_is_refused_by_name(mongodb: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        target("mongodb://h", **mongodb)


@pytest.mark.parametrize("scheme", DRIVERS)
@pytest.mark.parametrize("mongodb", [{"connect": False}, {"options": {"connect": True}}])
async def test_when_a_blocking_client_would_connect_says_nothing_here(
    scheme: str, mongodb: dict[str, Any], mongo_url: str
) -> None:
    async with Backend(mongo_url.replace("mongodb", scheme, 1), mongodb_backend_settings=mongodb) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")


@pytest.mark.parametrize("scheme", DRIVERS)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"directConnection": True, "loadBalanced": True}, StoreUnavailable),
        ({"minPoolSize": 50}, SettingsError),
    ],
)
async def test_options_that_exclude_each_other_are_refused_by_whatever_call_comes_first(
    scheme: str, options: dict[str, Any], error: type[Exception]
) -> None:
    async with Backend(f"{scheme}://localhost", mongodb_backend_settings={"options": options}) as backend:
        with pytest.raises(error, match="mongodb://localhost/celery cannot be used: "):
            await backend.store_result("a", 1, "SUCCESS")
        with pytest.raises(error, match="mongodb://localhost/celery cannot be used: "):
            await backend.fetch("a")


def test_credentials_are_in_no_representation() -> None:
    url = f"mongodb://user:{SECRET}@host/db"
    store = MongoStore(url, make_settings({"mongodb_backend_settings": {"password": SECRET}}))
    shown = repr(target(url, password=SECRET)) + repr(store) + store.location + repr(Backend(url))
    assert "s3cr" not in shown
    assert "user" not in shown


def test_a_missing_motor_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "motor.motor_asyncio", None)
    with pytest.raises(MissingDriver, match=r"aioresult-backend\[mongodb\]"):
        target("mongodb+motor://h")
    target("mongodb://h")


def test_a_missing_pymongo_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("aioresult.stores.mongodb")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(MissingDriver, match=r"aioresult-backend\[mongodb\]"):
        Backend("mongodb://h")
    monkeypatch.undo()
    importlib.import_module("aioresult.stores.mongodb")


# --- servers that are away, or refuse ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scheme", DRIVERS)
async def test_a_server_that_is_not_there_is_named_and_its_credentials_are_not(scheme: str) -> None:
    port = free_port()
    async with Backend(f"{scheme}://user:{SECRET}@127.0.0.1:{port}/db", connect_timeout=0.2) as backend:
        for call in (backend.ping, backend.purge, lambda: backend.store_result("a", 1, "SUCCESS")):
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}/db cannot be reached") as caught:
                await call()
            assert "s3cr" not in str(caught.value) + repr(caught.value.__cause__)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.fixture(scope="module")
def guarded() -> Iterator[MongoServer]:
    """A server that asks for a password; ``root`` belongs to admin, the others to the database ``results``."""
    deaf = [
        {
            "resource": {"db": "results", "collection": ""},
            "actions": ["find", "insert", "update", "remove", "createIndex"],
        }
    ]
    with MongoReplicaSet(guarded=True) as replica_set:
        (server,) = replica_set.servers
        server.call("createUser", "root", pwd="pw", roles=["root"])
        with server.client(username="root", password="pw") as client:
            client.results.command("createRole", "deaf", privileges=deaf, roles=[])
            for role in ("readWrite", "read", "deaf"):
                client.results.command("createUser", role, pwd="s3cr et", roles=[role])
        yield server


@pytest.mark.parametrize("scheme", DRIVERS)
async def test_a_wrong_password_is_said_to_be_wrong_and_not_told(guarded: MongoServer, scheme: str) -> None:
    for url in (
        f"{scheme}://readWrite:s3cret@127.0.0.1:{guarded.port}/results",
        f"{scheme}://root:{SECRET}@127.0.0.1:{guarded.port}/results",
    ):
        async with Backend(url, connect_timeout=2) as backend:
            for call in (backend.ping, backend.ping, lambda: backend.store_result("a", 1, "SUCCESS")):
                with pytest.raises(StoreUnavailable, match=r"refuses the user name or password.*authSource") as caught:
                    await call()
                assert "s3cr" not in str(caught.value)


async def test_the_url_s_database_is_where_its_user_belongs_unless_auth_source_says_otherwise(
    guarded: MongoServer,
) -> None:
    host = f"127.0.0.1:{guarded.port}/results"
    for url in (f"mongodb://readWrite:{SECRET}@{host}", f"mongodb://root:pw@{host}?authSource=admin"):
        async with Backend(url) as backend:
            assert await backend.store_result(url, 1, "SUCCESS")


async def test_what_a_user_may_not_do_is_said_with_the_role_that_is_needed(guarded: MongoServer) -> None:
    async with Backend(f"mongodb://read:{SECRET}@127.0.0.1:{guarded.port}/results") as backend:
        assert not (await backend.fetch("a")).ready
        with pytest.raises(AccessDenied, match=r"does not permit.*readWrite"):
            await backend.store_result("a", 1, "SUCCESS")
    async with Backend(f"mongodb://127.0.0.1:{guarded.port}/results") as backend:
        with pytest.raises(StoreUnavailable, match=r"asks for a user and a password, and none is in the URL"):
            await backend.ping()


async def test_a_user_without_the_right_to_change_streams_is_served_by_polling_and_told_why(
    guarded: MongoServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Backend(f"mongodb://deaf:{SECRET}@127.0.0.1:{guarded.port}/results", poll_interval=0.05) as backend:
        capabilities = await backend.capabilities()
        assert not capabilities.push
        assert "not authorized" in capabilities.reason
        waiting = asyncio.create_task(backend.AsyncResult("polled").get(timeout=PATIENCE))
        await backend.store_result("polled", 1, "SUCCESS")
        assert await waiting == 1
    assert "s3cr" not in caplog.text
