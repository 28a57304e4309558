"""Celery's result backends that cannot be used here: what each is, and why."""

from __future__ import annotations

from typing import Final

_BROKER: Final = "sends each result as a message to the process that published the task, and stores nothing"
_CACHE: Final = "cannot say when a result is stored, and drops results as it likes"
_CLOUD: Final = "cannot say when a result is stored, so that every waiter would have to ask, and pay, again and again"
_DATABASE: Final = "is read and written by no driver that aioresult has"
_DJANGO: Final = "uses the connections of Django, which block the event loop"

_KINDS: Final[dict[str, tuple[str, str]]] = {
    "rpc": ("Celery's backend over the broker", _BROKER),
    **dict.fromkeys(("amqp", "amqps", "pyamqp"), ("Celery's former backend over the broker", _BROKER)),
    "cache": ("Celery's cache backend", _CACHE),
    **dict.fromkeys(("memcached", "memcache", "pylibmc"), ("memcached", _CACHE)),
    "django-db": ("django-celery-results' database backend", f"{_DJANGO}; its table is not Celery's own"),
    "django-cache": ("django-celery-results' cache backend", f"{_DJANGO}, and a cache {_CACHE}"),
    **dict.fromkeys(
        ("file", "filesystem"), ("Celery's backend in a shared folder", "cannot say when a result is stored")
    ),
    "s3": ("Amazon S3", _CLOUD),
    **dict.fromkeys(("gs", "gcs"), ("Google Cloud Storage", _CLOUD)),
    "azureblockblob": ("Azure Blob Storage", _CLOUD),
    "dynamodb": ("Amazon DynamoDB", _CLOUD),
    "cosmosdbsql": ("Azure Cosmos DB by its SQL interface", _CLOUD),
    "elasticsearch": ("Elasticsearch", _DATABASE),
    "cassandra": ("Apache Cassandra", _DATABASE),
    "couchbase": ("Couchbase", _DATABASE),
    "couchdb": ("CouchDB", _DATABASE),
    "arangodb": ("ArangoDB", _DATABASE),
    "consul": ("Consul", _DATABASE),
    "riak": ("Riak", _DATABASE),
    "ironcache": ("IronCache", _CACHE),
    "oracle": ("Oracle Database", _DATABASE),
    "mssql": ("Microsoft SQL Server", _DATABASE),
}
READ_HERE: Final = "aioresult reads Redis (also with Sentinel), MongoDB, SQLite, PostgreSQL and MySQL"


def why_not(kind: str) -> str:
    """Return why the backend that Celery calls ``kind``, as in ``rpc://``, cannot be used; empty for unknown ones."""
    known = _KINDS.get(kind.partition("+")[0].lower())
    if known is None:
        return ""
    what, why = known
    return (
        f"{what} cannot be awaited, because it {why}; {READ_HERE}: let the workers store results there, as by "
        f"result_backend='redis://host:6379/0', and name the same place here"
    )
