"""Database URLs and engine options as people have them, made for other drivers, reach those that are used here."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy.pool import NullPool, QueuePool

from aioresult import Backend, SettingsError, StoreUnavailable
from aioresult.stores.sqlalchemy.urls import parse
from tests.servers import PostgresServer, postgres
from tests.stores.sqlalchemy.sql import PATIENCE, on_postgresql, sql_store

DRIVERS = ["asyncpg", "psycopg"]


def spelled(url: str, driver: str) -> str:
    """Return the URL of a PostgreSQL database with another driver, or with none."""
    return url.replace("+asyncpg", f"+{driver}" if driver else "")


async def setting_of(backend: Backend, name: str) -> str:
    """Return what a session of the backend's has for one of the server's settings."""

    async def show(link: Any, _dialect: object) -> str:
        return str(await link.value(f"SHOW {name}"))

    return await sql_store(backend).database.run(show)


# --- schemes and places -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres://", "db+postgres://", "postgres+psycopg2://"])
async def test_postgres_is_another_word_for_postgresql(postgres_url: str, scheme: str) -> None:
    async with Backend(scheme + postgres_url.partition("://")[2]) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")


@pytest.fixture(scope="module")
def reader(_postgres_database: str) -> Iterator[PostgresServer]:
    """A second server with a database of the same name, whose sessions only read."""

    async def create_tables(url: str) -> None:
        async with Backend(url) as backend:
            await backend.ping()

    name = urlsplit(_postgres_database).path.strip("/")
    with PostgresServer() as server:
        postgres.create_database(server.url, name)
        asyncio.run(create_tables(server.url_of(name)))
        on_postgresql(server.url, "ALTER SYSTEM SET default_transaction_read_only = on")
        server.restart()
        yield server


@pytest.mark.parametrize("driver", DRIVERS)
async def test_of_several_hosts_that_is_used_which_does_what_is_asked_for(
    postgres_url: str, reader: PostgresServer, unused_tcp_port: int, driver: str
) -> None:
    credentials, _, rest = postgres_url.partition("@")
    place, _, database = rest.partition("/")
    hosts = f"127.0.0.1:{unused_tcp_port},127.0.0.1:{reader.port},{place}"
    url = spelled(f"{credentials}@{hosts}/{database}", driver)
    async with Backend(f"{url}?target_session_attrs=read-write") as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        assert backend._runtime.store.location == f"postgresql://{hosts}/{database}"
    assert on_postgresql(postgres_url, "SELECT task_id FROM celery_taskmeta") == [("a",)]
    async with Backend(f"{url}?target_session_attrs=read-only") as backend:
        assert await setting_of(backend, "transaction_read_only") == "on"


def test_hosts_without_a_port_and_addresses_in_brackets_are_hosts_too() -> None:
    target = parse("postgresql://u:p,w@[::1]:7,db.example,%2Frun%2Fpg/d?target_session_attrs=any")
    assert target.url.query == {"host": "::1,db.example,/run/pg", "port": "7,5432,5432"}
    assert (target.url.username, target.url.password) == ("u", "p,w")
    assert target.location == "postgresql://[::1]:7,db.example:5432,/run/pg:5432/d"


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_unix_socket_s_folder_may_be_percent_encoded(postgres_server: PostgresServer, driver: str) -> None:
    if not postgres_server.owned:
        pytest.skip("the folder of an external server's socket is not known")
    folder = str(postgres_server.folder).replace("/", "%2F")
    async with Backend(f"postgresql+{driver}://postgres@{folder}:{postgres_server.port}/test") as backend:
        await backend.ping()


# --- libpq's options --------------------------------------------------------------------------------------------------

LIBPQS = (
    "sslmode=prefer&channel_binding=prefer&connect_timeout=7&keepalives=1&keepalives_idle=30&keepalives_interval=5"
    "&keepalives_count=3&tcp_user_timeout=9000&gssencmode=disable&application_name=shop%20front"
)


@pytest.mark.parametrize("driver", ["", *DRIVERS])
async def test_libpq_s_options_are_taken_by_either_driver(postgres_url: str, driver: str) -> None:
    async with Backend(f"{spelled(postgres_url, driver)}?{LIBPQS}") as backend:
        assert await setting_of(backend, "application_name") == "shop front"


@pytest.mark.parametrize("driver", DRIVERS)
async def test_several_settings_of_the_session_come_with_their_spaces(postgres_url: str, driver: str) -> None:
    flags = "-csearch_path%3Dapp%2Cpublic%20-c%20statement_timeout%3D8s%20-c%20DateStyle%3DISO%2C%5C%20DMY"
    async with Backend(f"{spelled(postgres_url, driver)}?options={flags}") as backend:
        assert await setting_of(backend, "search_path") == "app,public"
        assert await setting_of(backend, "statement_timeout") == "8s"
        assert await setting_of(backend, "DateStyle") == "ISO, DMY"


@pytest.mark.parametrize("driver", ["", *DRIVERS])
async def test_connect_args_made_for_psycopg2_mean_the_same_as_in_the_url(postgres_url: str, driver: str) -> None:
    connect_args = {
        "sslmode": "prefer",
        "connect_timeout": 7,
        "keepalives": 1,
        "keepalives_idle": 30,
        "application_name": "shop front",
        "options": "-c statement_timeout=8000",
        "client_encoding": "utf8",
    }
    options = {
        "connect_args": connect_args,
        "executemany_mode": "values_plus_batch",
        "client_encoding": "utf8",
        "poolclass": QueuePool,
        "pool_size": 3,
    }
    url = f"db+{spelled(postgres_url, driver)}?application_name=overruled"
    async with Backend(url, database_engine_options=options) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
        assert await setting_of(backend, "application_name") == "shop front"
        assert await setting_of(backend, "statement_timeout") == "8s"


async def test_asyncpg_s_server_settings_are_options_to_psycopg(postgres_url: str) -> None:
    connect_args = {"server_settings": {"DateStyle": "ISO, DMY", "statement_timeout": "8s"}}
    url = spelled(postgres_url, "psycopg") + "?options=-csearch_path%3Dapp,public"
    async with Backend(url, database_engine_options={"connect_args": connect_args}) as backend:
        assert await setting_of(backend, "DateStyle") == "ISO, DMY"
        assert await setting_of(backend, "search_path") == "app,public"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("query", ["ssl=prefer", "ssl=false", "timeout=3", "sslmode=disable&sslrootcert="])
async def test_what_one_driver_s_users_write_is_taken_by_the_other(postgres_url: str, driver: str, query: str) -> None:
    async with Backend(f"{spelled(postgres_url, driver)}?{query}") as backend:
        assert await backend.store_result("a", 1, "SUCCESS")


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_url_made_for_prisma_names_the_schema(postgres_url: str, driver: str) -> None:
    on_postgresql(postgres_url, "DROP SCHEMA IF EXISTS shop CASCADE")
    on_postgresql(postgres_url, "CREATE SCHEMA shop")
    query = "schema=shop&pgbouncer=true&connection_limit=1&connect_timeout=15"
    async with Backend(f"{spelled(postgres_url, driver)}?{query}") as backend:
        await backend.store_result("a", 1, "SUCCESS")
    assert on_postgresql(postgres_url, "SELECT task_id FROM shop.celery_taskmeta") == [("a",)]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("query", ["pgbouncer=true", "statement_cache_size=0"])
async def test_behind_a_pooler_that_is_told_of_no_statement_gets_a_name(
    postgres_url: str, driver: str, query: str
) -> None:
    async def read(link: Any, dialect: Any) -> int:
        for _ in range(10):
            await dialect.read(link, ["a"])
        named = "SELECT count(*) FROM pg_prepared_statements WHERE position('SELECT task_id' IN statement) = 1"
        return int(await link.value(named))

    async with Backend(f"{spelled(postgres_url, driver)}?{query}") as backend:
        await backend.store_result("a", 1, "SUCCESS")
        assert await sql_store(backend).database.run(read) == 0


async def test_a_connect_timeout_of_zero_is_none_as_in_libpq(postgres_url: str) -> None:
    async with Backend(f"{postgres_url}?connect_timeout=0") as backend:
        await backend.ping()


async def test_what_is_left_out_is_told_in_a_debug_line(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {"executemany_mode": "values_only", "poolclass": QueuePool, "connect_args": {"keepalives": 1}}
    with caplog.at_level(logging.DEBUG, "aioresult"):
        async with Backend(f"{postgres_url}?channel_binding=require", database_engine_options=options) as backend:
            await backend.ping()
    for name in ("executemany_mode", "poolclass", "keepalives", "channel_binding"):
        assert f"{name!r} means nothing" in caplog.text


async def test_a_pool_that_works_here_is_kept(postgres_url: str) -> None:
    pools: list[object] = []
    options = {"poolclass": NullPool}
    settings = {
        "database_engine_options": options,
        "database_engine_callback": lambda engine: pools.append(engine.pool),
    }
    async with Backend(postgres_url, **settings) as backend:
        await backend.ping()
    assert [type(pool) for pool in pools] == [NullPool]


# --- what is not understood -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "postgresql://u:pw-secret@h/d?connect_timout=5",
            r"postgresql://h/d.*'connect_timout'.*did you mean 'connect_t",
        ),
        ("postgresql+psycopg://u:pw-secret@h/d?sslmod=5", r"postgresql://h/d.*'sslmod'.*did you mean 'sslmode'"),
        ("postgresql://u:pw-secret@h/d?sslmode=yes", r"postgresql://h/d.*'sslmode'.*one of disable.*verify-full"),
        ("postgresql://u:pw-secret@h/d?connect_timeout=soon", r"postgresql://h/d.*'connect_timeout'.*a number"),
        ("postgresql://u:pw-secret@h/d?target_session_attrs=rw", r"'target_session_attrs'.*read-write"),
        ("postgresql://u:pw-secret@h/d?requirepeer=me", r"'requirepeer'.*postgresql\+psycopg://"),
        ("postgresql://u:pw-secret@h/d?gssencmode=require", r"'gssencmode'.*one of disable, prefer"),
        ("mysql://u:pw-secret@h/d?sslmode=require", r"mysql://h/d.*'sslmode'.*did you mean 'ssl_mode'"),
        ("mysql://u:pw-secret@h/d?ssl=perhaps", r"mysql://h/d.*'ssl'.*VERIFY_IDENTITY"),
        ("mysql://u:pw-secret@h/d?charset=utf9", r"mysql://h/d.*'charset'.*a character set that asyncmy knows"),
        ("sqlite:///x.db?wal=1", r"sqlite:///x.db.*'wal'"),
        ("postgresql://u:pw-secret@h1:x,h2/d", r"postgresql:// URL cannot be understood"),
        ("mysql://u:pw-secret@h1:1,h2:2/d", r"mysql:// URL cannot be understood"),
    ],
)
def test_an_option_that_is_not_understood_is_named_with_its_url(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Backend(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "connect_args", "said"),
    [
        ("postgresql+asyncpg://h/d", {"connect_timout": 5}, r"connect_args.*'connect_timout'"),
        ("postgresql+psycopg://h/d", {"connect_timout": 5}, r"connect_args.*'connect_timout'"),
        ("postgresql+psycopg://h/d", {"ssl": ssl.create_default_context()}, r"connect_args.*'ssl'.*sslrootcert"),
        ("mysql://h/d", {"ssl": {"cafile": "/x"}}, r"connect_args.*'ssl'.*'cafile'"),
        ("mysql://h/d", {"connect_timeout": "never"}, r"connect_args.*'connect_timeout'.*a number"),
        ("postgresql://h/d", {"server_settings": "x"}, r"connect_args.*'server_settings'.*a dict"),
        ("postgresql://h/d", {"sslrootcert": "/no/such.pem"}, r"//h/d.*sslrootcert.*'/no/such.pem'.*not exist"),
        ("postgresql://h/d", {"sslrootcert": "system", "sslmode": "require"}, r"//h/d.*=system.*verify-full"),
        ("mysql://h/d", {"ssl": {"ca": "/no/such.pem"}}, r"mysql://h/d.*ssl_ca.*'/no/such.pem'.*does not exist"),
    ],
)
async def test_an_option_that_is_not_understood_is_named_with_its_setting(
    url: str, connect_args: dict[str, Any], said: str
) -> None:
    async with Backend(url, database_engine_options={"connect_args": connect_args}) as backend:
        with pytest.raises(SettingsError, match=said):
            await backend.ping()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_parameter_that_the_server_does_not_know_is_no_fault_of_the_tables(
    postgres_url: str, driver: str
) -> None:
    async with Backend(spelled(postgres_url, driver) + "?options=-cbogus_parameter%3D3") as backend:
        with pytest.raises(SettingsError, match=r'does not take an option.*"bogus_parameter"') as caught:
            await backend.ping()
    assert "tables" not in str(caught.value)


async def test_a_character_set_may_have_the_name_that_servers_give_it(mariadb_url: str) -> None:
    async with Backend(f"{mariadb_url}?charset=utf8mb3") as backend:
        assert await backend.store_result("a", "\u20ac", "SUCCESS")
        assert await backend.AsyncResult("a").get(timeout=PATIENCE) == "\u20ac"


async def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    async with Backend(f"sqlite:///{tmp_path}") as backend:
        with pytest.raises(StoreUnavailable, match=f"sqlite:///{tmp_path}: this is a folder; put the name of a file"):
            await backend.ping()


async def test_a_folder_of_sqlite_s_that_does_not_exist_is_told(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no/where/x.db", f"sqlite:///file:{tmp_path}/no/where/x.db?uri=true&mode=rwc"):
        async with Backend(url) as backend:
            with pytest.raises(StoreUnavailable, match=rf"there is no folder {tmp_path}/no/where; create it"):
                await backend.ping()
