"""URLs of Redis, Valkey and their sockets as people have them, and backends of Celery's that cannot be awaited."""

from __future__ import annotations

import subprocess
import sys

import pytest
from redis.asyncio import Redis

from aioresult import Backend, SettingsError, UnknownStore
from aioresult.settings import make_settings
from aioresult.stores.redis.cluster import RedisClusterStore
from aioresult.stores.redis.sentinel import SentinelAddress
from aioresult.stores.redis.urls import from_url
from tests.servers import RedisServer


@pytest.mark.parametrize("scheme", ["valkey", "VALKEY", "aioresult+valkey"])
async def test_valkey_is_another_word_for_redis(redis_url: str, scheme: str) -> None:
    async with Backend(redis_url.replace("redis", scheme, 1)) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
    async with Redis.from_url(redis_url) as client:
        assert await client.exists("celery-task-meta-a")


async def test_valkeys_is_valkey_by_tls_and_there_are_its_clusters_and_sentinels() -> None:
    settings = make_settings({})
    assert from_url("valkeys://h", settings).encrypted
    assert not from_url("valkey://h", settings).encrypted
    assert from_url("valkeys+sentinel://h/mymaster", settings).encrypted
    assert isinstance(from_url("valkey+sentinel://h/mymaster", settings), SentinelAddress)
    async with Backend("valkeys+cluster://h") as backend:
        assert isinstance(backend._runtime.store, RedisClusterStore)


@pytest.mark.parametrize("scheme", ["unix", "socket", "valkey+unix", "redis+unix", "redis+socket"])
async def test_a_socket_is_spelled_as_in_redis_py_or_as_in_celery(redis_server: RedisServer, scheme: str) -> None:
    if not redis_server.owned:
        pytest.skip("the socket of an external server is not known")
    redis_server.start()
    redis_server.flush()
    async with Backend(f"{scheme}://{redis_server.unix_socket}?db=1") as backend:
        assert await backend.store_result("a", 1, "SUCCESS")
    assert redis_server.call("DBSIZE") == 0


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("rpc://", "Celery's backend over the broker.*sends each result as a message"),
        ("rpc", "Celery's backend over the broker.*sends each result as a message"),
        ("amqp://user:pw-secret@h//", "over the broker.*stores nothing"),
        ("django-db", "django-celery-results"),
        ("django-cache", "django-celery-results"),
        ("cache+memcached://h:11211/", "cache.*drops results"),
        ("cache", "cache.*drops results"),
        ("s3://bucket/path", "Amazon S3.*ask, and pay"),
        ("gs://bucket", "Google Cloud Storage"),
        ("azureblockblob://DefaultEndpointsProtocol=https;AccountKey=pw-secret", "Azure Blob Storage"),
        ("dynamodb://key:pw-secret@eu-west-1/table", "Amazon DynamoDB"),
        ("cosmosdbsql://:pw-secret@h", "Azure Cosmos DB"),
        ("file:///var/results", "shared folder"),
        ("elasticsearch://h:9200/i/d", "Elasticsearch"),
        ("db+oracle://u:pw-secret@h/d", "Oracle"),
        ("db+mssql+pyodbc://u:pw-secret@h/d", "Microsoft SQL Server"),
    ],
)
def test_what_cannot_be_awaited_says_what_it_is_and_what_to_do(named: str, said: str) -> None:
    with pytest.raises(UnknownStore, match=rf"(?s){said}.*result_backend='redis://") as caught:
        Backend(named)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("url", "nearest"), [("reddis://h", "redis"), ("postgressql://h/d", "postgresql")])
def test_a_misspelled_store_gets_the_nearest_name(url: str, nearest: str) -> None:
    with pytest.raises(UnknownStore, match=rf"; did you mean '{nearest}://'\?"):
        Backend(url)


def test_a_store_that_resembles_none_gets_the_list_of_those_that_there_are() -> None:
    with pytest.raises(UnknownStore, match=r"begin with 'http://'; known are .*, postgresql, .*, redis,"):
        Backend("http://h")


def test_a_file_without_a_scheme_shows_how_files_are_named() -> None:
    with pytest.raises(SettingsError, match=r"'sqlite:///results\.db'; there is no '://'"):
        Backend("results.db")


_WITHOUT_GREENLET = """
import sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "greenlet" else super().find_spec(name, path, target)

sys.meta_path = [Hidden if finder is PathFinder else finder for finder in sys.meta_path]
import aioresult
try:
    aioresult.Backend(sys.argv[1])
except aioresult.MissingDriver as exc:
    print(exc.name, exc)
"""


@pytest.mark.parametrize(
    ("url", "extra"),
    [("sqlite:///x.db", "sqlalchemy"), ("postgresql://h/d", "postgresql"), ("mysql://h/d", "mysql")],
)
def test_sqlalchemy_without_greenlet_names_our_extra(url: str, extra: str) -> None:
    command = [sys.executable, "-c", _WITHOUT_GREENLET, url]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.startswith("greenlet ")
    assert f"aioresult-backend[{extra}]" in told
