"""PgBouncer, a pooler of connections to PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from urllib.parse import urlsplit

import psycopg

from tests.servers.process import HOST, NotReady, Server, missing

_PREPARES_SINCE = (1, 21)
"""The first version that has ``max_prepared_statements``."""


def pgbouncer_binary() -> str:
    """Return the path of ``pgbouncer``; Debian keeps it out of a user's PATH."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("pgbouncer", path=search):
        return found
    raise missing("no pgbouncer: apt-get install pgbouncer")


def keeps_statements() -> bool:
    """Return whether the PgBouncer of this machine can follow named statements from one server to the other."""
    told = subprocess.run([pgbouncer_binary(), "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", told)
    return found is not None and (int(found[1]), int(found[2])) >= _PREPARES_SINCE


class PgBouncer(Server):
    """One PgBouncer in front of a PostgreSQL server.

    Args:
        url: of the database that it leads to, whose server trusts everybody.
        mode: ``"session"``, ``"transaction"`` or ``"statement"``: what a client keeps the same connection for.
        size: how many connections to the server it has at most.
        options: further settings of its section ``[pgbouncer]``.
    """

    name = "pgbouncer"
    unprivileged = True

    def __init__(self, url: str, mode: str, *, size: int = 5, **options: str | int) -> None:
        super().__init__()
        self._server = urlsplit(url)
        self.mode = mode
        self.size = size
        self.options = options

    @property
    def url(self) -> str:
        return self._server._replace(netloc=f"postgres@{HOST}:{self.port}").geturl()

    def prepare(self) -> None:
        settings: dict[str, str | int] = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": self.mode,
            "default_pool_size": self.size,
            "max_client_conn": 1000,
            "stats_users": "postgres",
        }
        lines = [f"{name} = {value}" for name, value in {**settings, **self.options}.items()]
        database = f"* = host={HOST} port={self._server.port} user=postgres"
        (self.folder / "pgbouncer.ini").write_text("\n".join(["[databases]", database, "[pgbouncer]", *lines, ""]))

    def command(self) -> list[str]:
        return [pgbouncer_binary(), str(self.folder / "pgbouncer.ini")]

    def probe(self) -> None:
        self.show("VERSION")

    def show(self, what: str) -> list[dict[str, object]]:
        """Return what its console says about ``what``, a row for each line."""
        console = self._server._replace(scheme="postgresql", netloc=f"postgres@{HOST}:{self.port}", path="/pgbouncer")
        try:
            # The console understands nothing but the simple protocol.
            with psycopg.connect(console.geturl(), autocommit=True, connect_timeout=5) as connection:
                cursor = psycopg.ClientCursor(connection, row_factory=psycopg.rows.dict_row)
                return list(cursor.execute(f"SHOW {what}".encode()))
        except psycopg.OperationalError as exc:
            raise NotReady(str(exc)) from exc
