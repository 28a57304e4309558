"""Records what a version of Celery stores: run by the Python of an environment that has this version, 3.6 or newer.

``generations.json`` is made of its output, once for each version::

    python recorder.py sqlite:///recorded.db mongodb://localhost/new_database redis://localhost/0

Prints a JSON object of versions, stores, and time zones: when it was (in UTC), and what was stored in the form in which
the driver gives it.
"""

import base64
import json
import sys
from datetime import date, datetime, timezone
from importlib import import_module
from typing import Any

Celery: Any = import_module("celery").Celery
Context: Any = import_module("celery.app.task").Context
GroupResult: Any = import_module("celery.result").GroupResult
ZONES = ("UTC", "Asia/Shanghai")
EXTENDED = {"task": "tasks.add", "args": [1], "kwargs": {"b": 2}, "hostname": "w@h", "retries": 1}


def store(url: str, zone: str) -> None:
    """Store results of all kinds with Celery's own backend."""
    if url.startswith("mongodb"):  # Celery 4.2 asks for its index in a way that newer servers refuse
        import_module("pymongo.collection").Collection.ensure_index = lambda *arguments, **options: None
    app = Celery("recorded", backend=url, set_as_current=False)
    app.conf.update(timezone=zone)
    backend = app.backend
    child = Context(id="value", _children=[app.AsyncResult("child")])
    backend.store_result("value", {"a": [1, None, "\u4e2d"]}, "SUCCESS", request=child)
    backend.store_result("none", None, "SUCCESS", request=Context(id="none", _children=[]))
    failed = Context(id="failure", _children=[])
    backend.store_result("failure", ValueError("bad", 42), "FAILURE", traceback="Traceback: it", request=failed)
    backend.store_result("progress", {"current": 1}, "PROGRESS", request=Context(id="progress", _children=[]))
    backend.save_group("group", GroupResult("group", [app.AsyncResult("a"), app.AsyncResult("b")]))
    app = Celery("extended", backend=url, set_as_current=False)
    app.conf.update(timezone=zone, result_extended=True)
    known = Context(id="extended", _children=[], delivery_info={"routing_key": "q"}, **EXTENDED)
    app.backend.store_result("extended", 1, "SUCCESS", request=known)


def plain(value: Any) -> Any:
    """Return a driver's value as JSON can hold it."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (bytes, memoryview)):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    return {"date": value.isoformat()} if isinstance(value, date) else value


def of_sqlite(url: str) -> Any:
    """Return all tables of a SQLite file, with the statements that make them, and empty it."""
    import sqlite3

    connection = sqlite3.connect(url.partition(":///")[2])
    connection.row_factory = sqlite3.Row
    made = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name LIKE 'celery%'"
    tables = {}
    for name, statement in connection.execute(made).fetchall():
        cursor = connection.execute("SELECT * FROM " + name)
        rows = [dict(row) for row in cursor]
        tables[name] = {"schema": statement, "rows": plain(rows)}
        connection.execute("DELETE FROM " + name)
    connection.commit()
    connection.close()
    return tables


def of_mongodb(url: str) -> Any:
    """Return all documents of a MongoDB database, and drop it."""
    client = import_module("pymongo").MongoClient(url)
    database = client.get_database()
    names = ("celery_taskmeta", "celery_groupmeta")
    found = {name: plain(list(database[name].find())) for name in names}
    client.drop_database(database.name)
    client.close()
    return found


def of_redis(url: str) -> Any:
    """Return all keys and values of a Redis database, and delete them."""
    client = import_module("redis").Redis.from_url(url)
    found = {key.decode(): plain(client.get(key)) for key in sorted(client.keys())}
    client.flushdb()
    return found


KINDS = {"sqlite": of_sqlite, "mongodb": of_mongodb, "redis": of_redis}


def record(url: str, zone: str) -> Any:
    """Store, and return what is stored then."""
    store(("db+" + url) if url.startswith("sqlite") else url, zone)
    moment = datetime.now(timezone.utc).replace(tzinfo=None)  # noqa: UP017  (older Pythons have no datetime.UTC)
    return {"moment": moment.isoformat(), "stored": KINDS[url.partition(":")[0]](url)}


if __name__ == "__main__":
    version = import_module("celery").__version__
    found = {url.partition(":")[0]: {zone: record(url, zone) for zone in ZONES} for url in sys.argv[1:]}
    json.dump({version: found}, sys.stdout)
