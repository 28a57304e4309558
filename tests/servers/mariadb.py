"""MariaDB."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncmy

from tests.servers.process import HOST, NotReady, Server, missing

_GREETING = 10  # version of the protocol, the first byte of a server that accepts clients
_NO_SUCH_CONNECTION = 1094
_USER = _PASSWORD = "aioresult"


def mariadb_tool(*names: str) -> str:
    """Return the path of the first of ``names`` that is installed; Debian keeps servers out of a user's PATH."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        if found := shutil.which(name, path=search):
            return found
    raise missing(f"no {names[0]}: apt-get install mariadb-server")


class MariaDBServer(Server):
    """One MariaDB server with a database ``test`` and a user who may do everything.

    It does not wait for the disk, but keeps what it has committed when it is killed.

    Args:
        options: further options of the command line, named with underscores.
    """

    name = "mariadb"
    unprivileged = True

    def __init__(self, **options: str | int) -> None:
        super().__init__()
        self.options = options

    @property
    def url(self) -> str:
        return f"mysql+asyncmy://{_USER}:{_PASSWORD}@{HOST}:{self.port}/test"

    def prepare(self) -> None:
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {_USER}@'%' IDENTIFIED BY '{_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {_USER}@'%' WITH GRANT OPTION;\n"
            "CREATE DATABASE IF NOT EXISTS test;\n"
        )
        self.make_data(
            mariadb_tool("mariadb-install-db", "mysql_install_db"),
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--datadir=",
        )

    def command(self) -> list[str]:
        options: dict[str, str | int] = {
            "datadir": str(self.folder / "data"),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self.folder / "pid"),
            "init-file": str(self.folder / "init.sql"),
            "bind-address": HOST,
            "port": self.port,
            "skip-name-resolve": 1,
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "16M",
            "performance-schema": 0,
            "max-connections": 200,
        }
        options |= {key.replace("_", "-"): value for key, value in self.options.items()}
        return [
            mariadb_tool("mariadbd", "mysqld"),
            "--no-defaults",
            *(f"--{key}={value}" for key, value in options.items()),
        ]

    def probe(self) -> None:
        with socket.create_connection((HOST, self.port), timeout=5) as connection:
            header = connection.recv(5)
        if len(header) < 5 or header[4] != _GREETING:
            raise NotReady(f"greeted with {header!r}")


def create_database(url: str, name: str) -> None:
    """Create database ``name`` on the server of ``url``."""
    execute(url, f"CREATE DATABASE `{name}`")


def drop_database(url: str, name: str) -> None:
    """Drop database ``name``; an unknown one is fine."""
    execute(url, f"DROP DATABASE IF EXISTS `{name}`")


def empty_database(url: str) -> None:
    """Disconnect everybody else from the database of ``url`` and delete what is in it."""
    name = urlsplit(url).path.removeprefix("/")
    others = f"SELECT id FROM information_schema.processlist WHERE db = '{name}' AND id <> CONNECTION_ID()"
    for row in execute(url, others):
        try:
            execute(url, f"KILL HARD CONNECTION {int(row[0])}")
        except asyncmy.errors.OperationalError as exc:
            if exc.args[0] != _NO_SUCH_CONNECTION:  # it has ended by itself meanwhile
                raise
    execute(url, "SET lock_wait_timeout = 10", f"DROP DATABASE `{name}`", f"CREATE DATABASE `{name}`")


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run ``statements``, each committed, and return the rows of the last one."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_run(url, statements))


async def _run(url: str, statements: tuple[str, ...]) -> list[tuple[Any, ...]]:
    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.removeprefix("/"),
        autocommit=True,
    )
    async with connection, connection.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
        return list(await cursor.fetchall())
