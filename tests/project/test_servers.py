"""The private servers, the proxy and the search for leaks do what the other tests rely on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import WriteConcern

from tests.servers import (
    ExternalServer,
    MariaDBServer,
    MongoReplicaSet,
    MongoServer,
    PostgresServer,
    PostgresStandby,
    RedisClusterServers,
    RedisSentinels,
    RedisServer,
    Server,
    TcpProxy,
    mariadb,
    missing,
    process,
)

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[2]


# --- servers ----------------------------------------------------------------------------------------------------------


def test_a_redis_without_persistence_is_empty_after_a_kill_and_keeps_its_port() -> None:
    with RedisServer(password="secret") as server:
        url = server.url
        server.call("SET", "key", "value")
        server.kill()
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            server.call("GET", "key")
        server.start()
        assert server.url == url
        assert server.call("GET", "key") is None


def test_a_persistent_redis_keeps_what_it_confirmed_before_a_kill() -> None:
    with RedisServer(persistent=True) as server:
        server.call("SET", "key", "value")
        server.kill()
        server.start()
        assert server.call("GET", "key") == "value"


def test_a_closed_server_leaves_no_process_and_no_folder() -> None:
    with RedisServer() as server:
        pid, folder = server.pid, server.folder
        assert folder.is_dir()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()


def test_a_server_that_does_not_start_is_reported_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "RETRY_TIMEOUT", 0.5)
    server = RedisServer(no_such_setting="yes")
    with pytest.raises(process.ServerFailed, match="no-such-setting"):
        server.__enter__()
    assert server.folder == Path()


_RUN_THAT_DIES = """
import os, sys
from tests.servers import RedisServer, process

class CopyingServer(RedisServer):
    def prepare(self):
        self.make_data("mkdir", "")

server = CopyingServer()
server.start()
(made,) = process._MADE.values()
print(server.pid, server.folder, made, flush=True)
os.kill(os.getpid(), 9)
"""


def test_servers_and_folders_do_not_outlive_a_test_run_that_is_killed() -> None:
    run = subprocess.run([sys.executable, "-c", _RUN_THAT_DIES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    pid, *folders = run.stdout.split()
    deadline = time.monotonic() + 20
    while left := [path for path in (*folders, f"/proc/{pid}/cmdline") if Path(path).exists()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


_WHO = "import os, sys; os.makedirs(os.path.join(sys.argv[1], str(os.getpid())))"


def test_data_is_made_once_and_each_server_has_a_copy_of_its_own() -> None:
    class CopyingServer(RedisServer):
        def prepare(self) -> None:
            self.make_data(sys.executable, "-c", _WHO, "")

    with CopyingServer() as one, CopyingServer() as other:
        (made,), (copied,) = ([*(server.folder / "data").iterdir()] for server in (one, other))
        assert made.name == copied.name
        made.rmdir()
        assert copied.is_dir()


def test_each_server_has_a_folder_of_its_own_for_temporary_files() -> None:
    with MariaDBServer() as server:
        assert mariadb.execute(server.url, "SELECT @@tmpdir") == [(str(server.folder),)]


def test_a_postgresql_that_is_killed_leaves_nothing_in_shared_memory() -> None:
    with PostgresServer() as server, server.connect() as connection:
        assert connection.execute("SHOW dynamic_shared_memory_type").fetchone() == ("mmap",)


def test_a_run_without_servers_and_processes_skips_the_tests_that_start_one() -> None:
    for left_out, file in (
        ("servers", "stores/test_certificates.py"),
        ("servers,processes", "project/test_pictures.py"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{file}"],
            cwd=ROOT,
            env={**os.environ, process.WITHOUT: left_out},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout
        counted = run.stdout.splitlines()[-1]
        assert "skipped" in counted, run.stdout
        assert "passed" not in counted, run.stdout


def test_sentinels_name_another_master_when_the_master_is_killed() -> None:
    with RedisSentinels(password="secret", sentinel_password="other") as servers:
        first = servers.master()
        first.kill()
        deadline = time.monotonic() + 60
        while servers.master() is first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert servers.master().running


def test_a_cluster_serves_all_slots_and_survives_the_restart_of_a_node() -> None:
    with RedisClusterServers() as cluster:
        owners = {cluster.owner(f"key-{number}").port for number in range(50)}
        assert owners == {port for _, port in cluster.addresses}
        owner = cluster.owner("key")
        owner.call("SET", "key", "value")
        owner.kill()
        cluster.start()
        assert cluster.owner("key").call("GET", "key") == "value"


def test_a_replica_set_announces_changes(mongo_replica_set: MongoReplicaSet | ExternalServer) -> None:
    if not isinstance(mongo_replica_set, MongoReplicaSet):
        pytest.skip("needs the member itself")
    with mongo_replica_set.primary.client() as client, client.test.things.watch() as changes:
        client.test.things.insert_one({"_id": "new"})
        assert next(changes)["documentKey"] == {"_id": "new"}


def test_a_replica_set_of_three_elects_another_primary() -> None:
    with MongoReplicaSet(members=3) as servers:
        first = servers.primary
        servers.step_down()
        second = servers.primary
        assert second is not first
        second.kill()
        assert servers.primary not in (None, second)


def test_a_standalone_mongod_keeps_what_it_has_journaled(mongo_server: MongoServer | ExternalServer) -> None:
    if not isinstance(mongo_server, MongoServer):
        pytest.skip("kills its server")
    with mongo_server.client() as client:
        client.test.get_collection("things", write_concern=WriteConcern(w=1, j=True)).insert_one({"_id": "old"})
    mongo_server.kill()
    mongo_server.start()
    with mongo_server.client() as client:
        assert client.test.things.find_one() == {"_id": "old"}
        client.drop_database("test")


def test_postgres_keeps_what_it_has_committed_when_it_is_killed() -> None:
    with PostgresServer(password="secret") as server:
        with server.connect() as connection:
            connection.execute("CREATE TABLE things AS SELECT 1 AS id")
        server.kill()
        server.start()
        with server.connect() as connection:
            assert connection.execute("SELECT id FROM things").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url_of("test", "").replace("secret", "guess"))


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_gets_an_empty_postgres_database(postgres_url: str, number: int) -> None:
    with psycopg.connect(postgres_url.replace("+asyncpg", "")) as connection:
        connection.execute("CREATE TABLE things (id int)")


def test_mariadb_keeps_what_it_has_committed_when_it_is_killed(mariadb_server: MariaDBServer | ExternalServer) -> None:
    mariadb.execute(mariadb_server.url, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)")
    mariadb_server.kill()
    mariadb_server.start()
    assert mariadb.execute(mariadb_server.url, "SELECT id FROM kept") == [(1,)]
    mariadb.execute(mariadb_server.url, "DROP TABLE kept")


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_gets_an_empty_mariadb_database(mariadb_url: str, number: int) -> None:
    mariadb.execute(mariadb_url, "CREATE TABLE things (id int)")


def test_a_server_of_the_users_own_is_never_stopped() -> None:
    server = ExternalServer("AIORESULT_TEST_REDIS_URL", "redis://example")
    server.start()
    server.close()
    for stop in (server.stop, server.kill, server.restart):
        with pytest.raises(pytest.skip.Exception, match="AIORESULT_TEST_REDIS_URL"):
            stop()


def test_a_missing_server_skips_locally_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(missing("no such server"), pytest.skip.Exception)
    monkeypatch.setenv("CI", "true")
    assert isinstance(missing("no such server"), pytest.fail.Exception)


def test_a_standby_that_comes_late_finds_what_its_primary_has_written_meanwhile() -> None:
    class LateStandby(PostgresStandby):
        def prepare(self) -> None:
            super().prepare()
            with self._primary.connect() as primary:
                for _ in range(4):  # without a reason to keep it, the server deletes its log
                    primary.execute("SELECT pg_logical_emit_message(false, 'test', 'a'), pg_switch_wal()")
                    primary.execute("CHECKPOINT")

    with PostgresServer() as primary, LateStandby(primary) as standby:
        standby.catch_up()


# --- proxy ------------------------------------------------------------------------------------------------------------


class EchoServer(Server):
    """A server that sends back what it gets."""

    name = "echo"

    @property
    def url(self) -> str:
        return f"echo://user:secret@127.0.0.1:{self.port}/path"

    def command(self) -> list[str]:
        return [sys.executable, "-c", _ECHO, str(self.port)]

    def probe(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()


_ECHO = """
import asyncio, sys
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    await (await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def echo_server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echo(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.reader.readexactly(len(data))


Connect = Callable[[TcpProxy], Awaitable[Client]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[Client] = []

    async def connect_to(proxy: TcpProxy) -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return clients[-1]

    yield connect_to
    for client in clients:
        client.writer.close()


async def test_the_proxy_forwards_and_counts(echo_server: EchoServer, connect: Connect) -> None:
    async with TcpProxy(echo_server.url) as proxy:
        assert proxy.url == f"echo://user:secret@127.0.0.1:{proxy.port}/path"
        client = await connect(proxy)
        message = os.urandom(300_000)
        assert await client.echo(message) == message
        assert proxy.bytes == {"to the server": len(message), "to the client": len(message)}
        assert (proxy.connections, proxy.accepted) == (1, 1)


async def test_a_cut_breaks_connections_and_welcomes_new_ones(echo_server: EchoServer, connect: Connect) -> None:
    async with TcpProxy(echo_server.url) as proxy:
        client = await connect(proxy)
        await client.echo(b"before")
        proxy.cut()
        assert await client.reader.read() == b""
        assert await (await connect(proxy)).echo(b"after") == b"after"
        await proxy.wait_for_connections(2)


async def test_what_is_sent_while_frozen_is_delivered_when_it_resumes(
    echo_server: EchoServer, connect: Connect
) -> None:
    async with TcpProxy(echo_server.url) as proxy:
        client = await connect(proxy)
        await client.echo(b"before")
        proxy.freeze()
        answer = asyncio.create_task(client.echo(b"during"))
        newcomer = await connect(proxy)
        await proxy.wait_for_connections(2)
        other = asyncio.create_task(newcomer.echo(b"newcomer"))
        await asyncio.wait([answer, other], timeout=0.1)
        assert not answer.done()
        assert not other.done()
        assert proxy.bytes["to the server"] == len(b"before")
        await proxy.resume()
        assert await answer == b"during"
        assert await other == b"newcomer"


async def test_silenced_connections_stay_silent_while_new_ones_work(echo_server: EchoServer, connect: Connect) -> None:
    async with TcpProxy(echo_server.url) as proxy:
        client = await connect(proxy)
        await client.echo(b"before")
        proxy.silence()
        answer = asyncio.create_task(client.echo(b"during"))
        assert await (await connect(proxy)).echo(b"newcomer") == b"newcomer"
        await proxy.resume()
        assert await (await connect(proxy)).echo(b"another") == b"another"
        assert not answer.done()
        proxy.cut()
        with pytest.raises((OSError, EOFError)):
            await answer


async def test_a_refusing_proxy_lets_nobody_in_until_it_resumes(echo_server: EchoServer, connect: Connect) -> None:
    async with TcpProxy(echo_server.url) as proxy:
        client = await connect(proxy)
        await client.echo(b"before")
        await proxy.refuse()
        assert await client.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await proxy.resume()
        assert await (await connect(proxy)).echo(b"after") == b"after"


# --- loops and leaks --------------------------------------------------------------------------------------------------


@pytest.mark.all_loops
async def test_marked_tests_run_on_every_kind_of_loop(request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.id
    loop = asyncio.get_running_loop()
    assert type(loop).__module__.startswith("uvloop") == (kind == "uvloop")
    started: list[str] = []

    async def start() -> None:
        started.append("started")

    task = asyncio.create_task(start())
    assert bool(started) == (kind == "eager")
    await task


@given(number=st.integers())
async def test_hypothesis_is_at_home_in_coroutine_tests(number: int) -> None:
    assert await asyncio.sleep(0, number) == number


_LEAKY = """
import asyncio, gc, socket, pytest

class Cycle:
    def __init__(self, resource):
        self.me, self.resource = self, resource

async def test_task(request):
    request.config.kept = asyncio.create_task(asyncio.Event().wait(), name="left behind")

async def test_unseen():
    async def fail():
        raise ZeroDivisionError("never seen")
    asyncio.create_task(fail())
    await asyncio.sleep(0.01)

def test_socket():
    Cycle(socket.socket())

async def test_transport():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    Cycle(await asyncio.open_connection("127.0.0.1", port))
    server.close()

async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))
"""


def test_a_test_that_leaves_something_behind_fails_itself(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyprojecttoml((ROOT / "pyproject.toml").read_text())
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(test_leaky=_LEAKY)
    result = pytester.runpytest_subprocess("-v", "test_leaky.py", timeout=60)
    output = result.stdout.str()
    blamed = {
        line.split("::")[1].split()[0] for line in result.outlines if line.startswith(("ERROR test", "FAILED test"))
    }
    assert blamed == {"test_task", "test_unseen", "test_socket", "test_transport"}, output
    assert "left behind" in output
    assert "never seen" in output
