"""Private real servers for tests and benchmarks: started on free loopback ports, in temporary folders."""

from tests.servers.process import ExternalServer, Server, ServerFailed, missing
from tests.servers.redis import RedisClusterServers, RedisSentinels, RedisServer

__all__ = [
    "ExternalServer",
    "RedisClusterServers",
    "RedisSentinels",
    "RedisServer",
    "Server",
    "ServerFailed",
    "missing",
]
