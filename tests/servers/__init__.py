"""Private real servers for tests and benchmarks: started on free loopback ports, in temporary folders.

Each is a context manager with ``url``, ``start``, ``stop``, ``kill``, ``restart`` and ``close``; ``tests/conftest.py``
has the ones that are shared by a whole test run.
"""

from tests.servers.external import ExternalServer
from tests.servers.mariadb import MariaDBServer
from tests.servers.mongo import MongoReplicaSet, MongoServer
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer, PostgresStandby
from tests.servers.process import Server, ServerFailed, missing
from tests.servers.proxy import TcpProxy
from tests.servers.redis import RedisClusterServers, RedisSentinels, RedisServer

__all__ = [
    "ExternalServer",
    "MariaDBServer",
    "MongoReplicaSet",
    "MongoServer",
    "PgBouncer",
    "PostgresServer",
    "PostgresStandby",
    "RedisClusterServers",
    "RedisSentinels",
    "RedisServer",
    "Server",
    "ServerFailed",
    "TcpProxy",
    "missing",
]
