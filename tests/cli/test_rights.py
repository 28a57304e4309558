"""What an operator is told whose user has few rights: of a process that only waits, or of one that is not the owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.commandline import aioresult
from tests.servers import MariaDBServer, PostgresServer, RedisServer, mariadb
from tests.servers.process import HOST

WAITS = "%R~celery-task* &celery-task* +get +mget +subscribe +unsubscribe +ping +info +lindex +llen +lrange"

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "security.md"


@pytest.fixture(scope="module")
def waiting_url() -> Iterator[str]:
    """URL of a Redis for a user who may wait, and may store nothing."""
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "web", "on", ">pw", "-@all", *WAITS.split())
        yield f"redis://web:pw@{HOST}:{server.port}/0"


def test_doctor_stores_nothing_where_it_is_to_read_only(waiting_url: str) -> None:
    ended = aioresult("doctor", waiting_url, "--read-only")
    assert (ended.code, ended.err) == (0, "")
    assert "ok push Redis pub/sub" in " ".join(ended.out.split())
    assert "ok reading" in ended.out
    assert "round trip" not in ended.out
    (report,) = aioresult("doctor", waiting_url, "--read-only", "--json").objects
    assert (report["push"], report["read_ms"] > 0) == (True, True)


def test_doctor_that_reads_only_finds_out_whether_it_may(waiting_url: str) -> None:
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "blind", "on", ">pw", "-@all", *WAITS.replace("+mget ", "").split())
        ended = aioresult("doctor", f"redis://blind:pw@{HOST}:{server.port}/0", "--read-only")
    assert ended.code == 6
    assert "'mget' command" in ended.err


def test_doctor_without_the_right_to_store_says_how_to_check_for_one_who_waits(waiting_url: str) -> None:
    ended = aioresult("doctor", waiting_url)
    assert ended.code == 6
    assert "aioresult doctor --read-only" in " ".join(ended.out.split())


def test_who_may_not_remove_the_trigger_is_told_the_command_for_that() -> None:
    with PostgresServer() as server, server.connect() as connection:
        assert aioresult("sql", "install-trigger", url=server.url).code == 0
        connection.execute("CREATE ROLE worker LOGIN")
        connection.execute("GRANT SELECT ON celery_taskmeta TO worker")
        ended = aioresult("sql", "uninstall-trigger", url=server.url.replace("postgres@", "worker@"))
    assert ended.code == 6
    assert "let the owner run `aioresult sql uninstall-trigger` once" in ended.err


def test_a_sequence_that_may_not_be_used_is_not_called_missing(mariadb_url: str) -> None:
    """MariaDB shows a user no object on which he has no right."""
    assert aioresult("sql", "create", url=mariadb_url).code == 0
    database = urlsplit(mariadb_url).path.removeprefix("/")
    mariadb.execute(
        mariadb_url,
        "CREATE OR REPLACE USER clerk@'%' IDENTIFIED BY 'pw'",
        f"GRANT SELECT, INSERT, UPDATE ON {database}.celery_taskmeta TO clerk@'%'",
    )
    ended = aioresult("store", "a", url=mariadb_url.replace("aioresult:aioresult@", "clerk:pw@"))
    assert ended.code == 6
    assert "task_id_sequence, which this database account may not use" in ended.err
    assert "GRANT SELECT, INSERT ON" in ended.err


def test_doctor_on_mariadb_leaves_out_what_is_not_known_and_names_what_is(mariadb_url: str) -> None:
    (report,) = aioresult("doctor", mariadb_url, "--json").objects
    assert all(report["capabilities"]["details"].values()), "before there are tables"
    (report,) = aioresult("doctor", mariadb_url, "--json").objects
    details = report["capabilities"]["details"]
    assert (details["bytes in result"], details["digits in date_done"]) == ("4294967295", "6")
    assert details["charset of traceback"] == "utf8mb4"


@pytest.mark.parametrize("scheme", ["redis+sentinel", "mongodb+srv", "postgresql+psycopg", "mysql+asyncmy"])
def test_an_unknown_scheme_is_told_the_documented_ones(scheme: str) -> None:
    ended = aioresult("get", "a", url="foo://localhost")
    assert ended.code == 2
    assert f" {scheme}," in ended.err


def test_a_server_that_asks_for_a_password_says_that_the_url_has_none() -> None:
    with RedisServer(password="s3cret") as server:
        ended = aioresult("get", "a", url=f"redis://{HOST}:{server.port}/0")
        assert "the server asks for a password, and none is in the URL or the settings" in ended.err
        ended = aioresult("get", "a", url=f"redis://:wr0ng@{HOST}:{server.port}/0")
        assert "check user and password" in ended.err
        assert "wr0ng" not in ended.err


def test_a_misspelt_option_of_mongodb_is_named() -> None:
    ended = aioresult("get", "a", url="mongodb://u:s3cret@localhost/shop?frob=s3cret2")
    assert ended.code == 2
    assert "frob" in ended.err
    assert "s3cret" not in ended.err


def test_the_version_is_shown() -> None:
    ended = aioresult("--version")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("aioresult 0.")


def grants(heading: str) -> list[str]:
    """Return the statements that the page shows under a heading."""
    found = re.search(rf"^## Rights: {heading}$.*?^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    text = re.sub(r"--.*", "", found[1])
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def check_users(worker: str, web: str) -> None:
    """Do what the one may who stores, and what the other may who only waits."""
    assert aioresult("doctor", "--read-only", url=web).code == 0
    assert aioresult("doctor", url=worker).code == 0
    assert aioresult("store", "a", "--result", "1", url=worker).code == 0
    assert aioresult("get", "a", url=web).out == "1\n"
    assert aioresult("tail", "a", url=web).code == 0
    for command in (("revoke", "b"), ("forget", "a", "b"), ("purge",)):
        assert aioresult(*command, url=worker).code == 0
        assert aioresult(*command, url=web).code == 6
    assert aioresult("store", "c", url=web).code == 6


def test_the_grants_of_the_page_suffice_on_postgresql() -> None:
    with PostgresServer() as server, server.connect() as connection:
        assert aioresult("sql", "create", url=server.url).code == 0
        for statement in ("CREATE ROLE worker LOGIN", "CREATE ROLE web LOGIN", *grants("PostgreSQL")):
            connection.execute(statement.encode())
        check_users(*(server.url.replace("postgres@", f"{user}@") for user in ("worker", "web")))


def test_the_grants_of_the_page_suffice_on_mariadb() -> None:
    with MariaDBServer() as server:
        mariadb.execute(server.url, "CREATE DATABASE shop")
        shop = server.url.replace("/test", "/shop")
        assert aioresult("sql", "create", url=shop).code == 0
        users = [f"CREATE USER {user}@'%' IDENTIFIED BY 'pw'" for user in ("worker", "web")]
        mariadb.execute(shop, *users, *grants("MySQL and MariaDB"))
        check_users(*(shop.replace("aioresult:aioresult@", f"{user}:pw@") for user in ("worker", "web")))
