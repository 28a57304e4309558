"""MySQL and MariaDB in every SQL mode, and with every character set of the connection: no value becomes SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any, Final

import pytest

from aioresult import Backend, Record
from aioresult.errors import AioResultError
from aioresult.testing import StoreTests
from tests.servers import ExternalServer, MariaDBServer, mariadb
from tests.stores.sqlalchemy.sql import celery_app, sql_store

MODES: Final = [
    "",
    "NO_BACKSLASH_ESCAPES",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES,ANSI_QUOTES",
    "ORACLE",
    "ORACLE,NO_BACKSLASH_ESCAPES,EMPTY_STRING_IS_NULL",
    "PAD_CHAR_TO_FULL_LENGTH",
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE",
]
CHARSETS: Final = {
    "utf8mb4": "utf-8",
    "gbk": "gbk",
    "sjis": "shift_jis",
    "big5": "big5",
    "cp932": "cp932",
    "latin1": "latin-1",
}
"""Character sets of sessions, and the same as Python knows them."""
FORGED: Final = (
    "', NULL, NULL, NULL), (NEXTVAL(task_id_sequence), 0x76696374696d, 0x53554343455353, 0x226861636b22, NULL, NULL, "
    "NULL) -- "
)
"""Behind an apostrophe that is not escaped, the rest of an INSERT that stores the record of the task ``victim``."""
HOSTILE: Final = [
    "it's",
    FORGED,
    "\\" + FORGED,
    '"' + FORGED,
    "\u00a5" + FORGED,  # Shift JIS has the octet of a backslash for it
    "\u8868" + FORGED,  # its second octet in Shift JIS and Big5 is that of a backslash
    "%s %(x)s %% :id ` \\' \\\" \x1a\n\r",
]


@pytest.fixture(params=MODES)
def mode(
    request: pytest.FixtureRequest, mariadb_url: str, mariadb_server: MariaDBServer | ExternalServer
) -> Iterator[str]:
    """The mode of all new sessions of the server."""
    if isinstance(mariadb_server, ExternalServer):
        pytest.skip("changes the mode of the whole server, which is somebody's own")
    ((before,),) = mariadb.execute(mariadb_url, "SELECT @@GLOBAL.sql_mode")
    mariadb.execute(mariadb_url, f"SET GLOBAL sql_mode = '{request.param}'")
    yield request.param
    mariadb.execute(mariadb_url, f"SET GLOBAL sql_mode = '{before}'")


def with_charset(charset: str) -> dict[str, Any]:
    """Return the setting for sessions with ``charset``."""
    return {"database_engine_options": {"connect_args": {"charset": charset}}}


def comes_back(text: str, charset: str) -> bool:
    """Return whether a session with ``charset`` has all that ``text`` is made of, and for nothing else."""
    if charset == "sjis" and "\\" in text:
        return False  # to MySQL, its octet 0x5c is the yen sign when it is read, and a backslash when it is parsed
    codec = CHARSETS[charset]
    return text.encode(codec, "replace").decode(codec) == text


def binary(text: str) -> bytes:
    """Return octets that end a literal for those who take ``\\xbf\\x5c`` for one character, as GBK does."""
    return b"\xbf" + text.encode()


async def test_nothing_that_is_stored_becomes_sql(mode: str, mariadb_url: str) -> None:
    for charset in CHARSETS:
        await asyncio.to_thread(mariadb.execute, mariadb_url, "DROP TABLE IF EXISTS celery_taskmeta")
        values = [text for text in HOSTILE if comes_back(text, charset)]
        settings = {"result_extended": True, "result_serializer": "yaml", **with_charset(charset)}
        async with Backend(mariadb_url, **settings) as backend:
            for value in HOSTILE:
                with nullcontext() if value in values else suppress(AioResultError):
                    written = await store_everywhere(backend, value)
                    assert written or value not in values
            assert (await backend.fetch("victim")).status == "PENDING"
            await asyncio.gather(*(check_everywhere(backend, value) for value in values))
            ids = [value[:155] for value in values]
            await sql_store(backend).delete_many(ids)
            assert await sql_store(backend).get_many(ids) == {}
            assert len(await sql_store(backend).get_many([f"failed {one}"[:155] for one in ids])) == len(ids)


async def store_everywhere(backend: Backend, value: str) -> bool:
    """Store ``value`` in every column."""
    await backend.store_result(f"failed {value}"[:155], ValueError(value), "FAILURE", value)
    return await backend.store_result(
        value[:155], value, "SUCCESS", value, name=value, worker=value, queue=value, args=[value], kwargs={"a": value}
    )


async def check_everywhere(backend: Backend, value: str) -> None:
    """See that ``value`` is what comes back of each column."""
    record = await backend.fetch(value[:155])
    assert (record.result, record.args, record.kwargs, record.traceback) == (value, [value], {"a": value}, value)
    assert (record.name, record.worker, record.queue) == (value[:155],) * 3
    assert str((await backend.fetch(f"failed {value}"[:155])).result) == value


async def test_no_octets_become_sql(mode: str, mariadb_url: str) -> None:
    values = [binary(text) for text in HOSTILE] + [bytes(range(256)) * 3, b""]
    for charset in CHARSETS:
        settings = {"result_serializer": "pickle", "accept_content": ["pickle"], **with_charset(charset)}
        async with Backend(mariadb_url, **settings) as backend:
            for number, value in enumerate(values):
                assert await backend.store_result(f"{charset}-{number}", value, "SUCCESS")
            found = await asyncio.gather(*(backend.fetch(f"{charset}-{number}") for number in range(len(values))))
            assert [record.result for record in found] == values
            assert (await backend.fetch("victim")).status == "PENDING"


async def test_groups_states_and_names_of_tables_are_safe_in_every_mode(mode: str, mariadb_url: str) -> None:
    names = {"task": 'it\'s `a` "table" \\ %s :ids', "group": "a 'group' \" \\ ` %(x)s :id"}
    async with Backend(mariadb_url, database_table_names=names) as backend:
        store = sql_store(backend)
        for text in HOSTILE:
            assert await backend.store_result(text[:155], text, text[:50])
            assert (await backend.fetch(text[:155])).status == text[:50]
            await store.put_group(text[:155], [[text[:155], None], []])
            assert await store.get_group(text[:155]) == [[text[:155], None], []]
            await store.delete_group(text[:155])
            assert await store.get_group(text[:155]) is None
        assert await backend.purge() == 0
    tables = await asyncio.to_thread(mariadb.execute, mariadb_url, "SHOW TABLES")
    assert {name for (name,) in tables} >= set(names.values())


async def test_tables_that_celery_created_are_used_in_every_mode(mode: str, mariadb_url: str) -> None:
    def by_celery() -> None:
        with celery_app(mariadb_url) as app:
            app.backend.store_result("theirs", 1, "SUCCESS")

    await asyncio.to_thread(by_celery)
    async with Backend(mariadb_url) as backend:
        assert (await backend.fetch("theirs")).result == 1
        assert await backend.store_result("ours", 2, "SUCCESS")
        assert not await backend.store_result("ours", 3, "STARTED")


class TestConformanceInTheHardestMode(StoreTests):
    """With an engine whose sessions have the modes that change most of the language."""

    @pytest.fixture(autouse=True)
    def _server(self, mariadb_url: str) -> None:
        self.database = mariadb_url

    def make_backend(self, **settings: Any) -> Backend:
        modes = "SET SESSION sql_mode = 'ORACLE,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,EMPTY_STRING_IS_NULL'"
        options = {"connect_args": {"init_command": modes}}
        quick = {"idle_timeout": 0.05, "poll_interval": 0.1, "poll_min_interval": 0.01}
        return Backend(self.database, **{**quick, "database_engine_options": options, **settings})

    async def poison(self, backend: Backend, task_id: str) -> None:
        statement = f"UPDATE celery_taskmeta SET result = '{{broken', status = 'SUCCESS' WHERE task_id = '{task_id}'"
        await asyncio.to_thread(mariadb.execute, self.database, statement)


@pytest.mark.parametrize("modes", ["", "PAD_CHAR_TO_FULL_LENGTH"])
async def test_columns_of_fixed_width_are_read_without_their_padding(mariadb_url: str, modes: str) -> None:
    columns = (
        "id INT AUTO_INCREMENT PRIMARY KEY, task_id CHAR(155) UNIQUE, status CHAR(50), result LONGBLOB, "
        "date_done DATETIME(6), traceback LONGTEXT, name CHAR(155)"
    )
    await asyncio.to_thread(mariadb.execute, mariadb_url, f"CREATE TABLE celery_taskmeta ({columns})")
    options = {"connect_args": {"init_command": f"SET SESSION sql_mode = '{modes}'"}}
    async with Backend(mariadb_url, result_extended=True, database_engine_options=options) as backend:
        assert await backend.store_result("a", 1, "SUCCESS", name="app.add")
        record = await backend.fetch("a")
        assert (record.status, record.result, record.name) == ("SUCCESS", 1, "app.add")
        assert not await backend.store_result("a", 2, "STARTED")
        await backend.forget("a")
        assert await sql_store(backend).get_many(["a"]) == {}
        assert await sql_store(backend).put_many([Record(id="b", status="STARTED")]) == [True]


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
async def test_tables_have_transactions_whatever_the_server_s_default_engine(
    engine: str, mariadb_url: str, mariadb_server: MariaDBServer | ExternalServer
) -> None:
    if isinstance(mariadb_server, ExternalServer):
        pytest.skip("changes a setting of the whole server, which is somebody's own")
    await asyncio.to_thread(mariadb.execute, mariadb_url, f"SET GLOBAL default_storage_engine = {engine}")
    try:
        async with Backend(mariadb_url) as backend:
            await backend.store_result("a", 1, "SUCCESS")
            await backend.append("b", 1)
            await sql_store(backend).renew_lease("one", 60)
    finally:
        await asyncio.to_thread(mariadb.execute, mariadb_url, "SET GLOBAL default_storage_engine = InnoDB")
    look = "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = database()"
    made = dict(await asyncio.to_thread(mariadb.execute, mariadb_url, look))
    names = {"celery_taskmeta", "celery_tasksetmeta", "celery_taskstream", "celery_taskrunner"}
    assert {name: made[name] for name in names} == dict.fromkeys(names, "InnoDB")
