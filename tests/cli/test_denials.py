"""A right that is missing is one kind of failure, with one exit code, whichever store refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aioresult.cli.exits import Exit
from tests.cli.commandline import aioresult
from tests.servers import MariaDBServer, MongoServer, PostgresServer, RedisServer, mariadb
from tests.servers.process import HOST

READS = "%R~celery-task* &celery-task* +get +mget +subscribe +unsubscribe +ping +info +lindex +llen +lrange"

# Each store has two users with the password "pw": ``web`` may read, and ``stranger`` may not even use the database.


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "web", "on", ">pw", "-@all", *READS.split())
        server.call("ACL", "SETUSER", "stranger", "on", ">pw", "-@all", "+ping")
        yield f"redis://USER:pw@{HOST}:{server.port}/0"


@pytest.fixture(scope="module")
def mongodb() -> Iterator[str]:
    with MongoServer(guarded=True) as server:
        server.call("createUser", "root", pwd="pw", roles=["root"])
        with server.client(username="root", password="pw") as client:
            client.results.command("createUser", "web", pwd="pw", roles=["read"])
            client.results.command("createUser", "stranger", pwd="pw", roles=[])
        yield f"mongodb://USER:pw@{HOST}:{server.port}/results"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with PostgresServer() as server, server.connect() as connection:
        assert aioresult("sql", "create", url=server.url).code == 0
        for statement in (
            b"CREATE ROLE web LOGIN",
            b"CREATE ROLE stranger LOGIN",
            b"GRANT SELECT ON celery_taskmeta TO web",
            b"REVOKE CONNECT ON DATABASE test FROM PUBLIC",
            b"GRANT CONNECT ON DATABASE test TO web",
        ):
            connection.execute(statement)
        yield server.url_of("test", "+DRIVER").replace("postgres@", "USER@")


@pytest.fixture(scope="module")
def mysql() -> Iterator[str]:
    with MariaDBServer() as server:
        assert aioresult("sql", "create", url=server.url).code == 0
        users = [f"CREATE USER {user}@'%' IDENTIFIED BY 'pw'" for user in ("web", "stranger")]
        mariadb.execute(server.url, *users, "GRANT SELECT ON test.* TO web@'%'")
        yield server.url.replace("aioresult:aioresult@", "USER:pw@")


Store = Callable[[str], str]


@pytest.fixture(params=["redis", "mongodb", "postgresql+asyncpg", "postgresql+psycopg", "mysql"])
def store(request: pytest.FixtureRequest) -> Store:
    """Return a function that gives a user's URL."""
    kind, _, driver = request.param.partition("+")
    url: str = request.getfixturevalue(kind)
    return lambda user: url.replace("USER", user).replace("DRIVER", driver)


@pytest.mark.parametrize("command", [("store", "a"), ("forget", "a")], ids=" ".join)
def test_who_may_not_write_is_refused(store: Store, command: tuple[str, str]) -> None:
    ended = aioresult(*command, url=store("web"))
    assert (ended.code, ended.out) == (Exit.REFUSED, "")
    assert "#accessdenied)" in ended.err


def test_who_may_not_even_use_the_database_is_refused(store: Store) -> None:
    ended = aioresult("get", "a", "--timeout", "0", url=store("stranger"))
    assert ended.code == Exit.REFUSED
    assert "#accessdenied)" in ended.err


def test_a_file_that_may_only_be_read_refuses(tmp_path: Path) -> None:
    assert aioresult("sql", "create", url=f"sqlite:///{tmp_path}/results.db").code == 0
    ended = aioresult("store", "a", url=f"sqlite:///file:{tmp_path}/results.db?mode=ro&uri=true")
    assert ended.code == Exit.REFUSED
    assert "#accessdenied)" in ended.err


@pytest.fixture
def guarded_redis() -> Iterator[str]:
    with RedisServer(password="pw") as server:
        yield f"redis://{HOST}:{server.port}/0"


@pytest.mark.parametrize("kind", ["guarded_redis", "mongodb"])
def test_who_has_not_logged_in_is_refused_the_connection(request: pytest.FixtureRequest, kind: str) -> None:
    url: str = request.getfixturevalue(kind)
    ended = aioresult("store", "a", url=url.replace("USER:pw@", ""))
    assert ended.code == Exit.UNAVAILABLE
    assert "and none is in the URL or the settings" in ended.err
