"""The client, database and collections for a URL and Celery's ``mongodb_backend_settings``, with both drivers.

PyMongo's and Motor's asynchronous classes have the same methods, so the rest of the store is written once. The
differences are here: how a client is made and closed, and how a change stream is opened.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeGuard
from urllib.parse import unquote

import msgspec
import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidURI, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from aioresult.errors import SettingsError, missing_driver
from aioresult.settings import Settings
from aioresult.stores.mongodb.documents import READING, Document

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase

    Client = AsyncMongoClient[Document] | AsyncIOMotorClient[Document]
    Database = AsyncDatabase[Document] | AsyncIOMotorDatabase[Document]
    Collection = AsyncCollection[Document] | AsyncIOMotorCollection[Document]

_NO_SUCH_COMMAND: Final = 59
_DATABASE: Final = "celery"
_POOL: Final = {"maxPoolSize": 10}
"""Celery's default. It must be three at least, since each of two change streams keeps one connection busy."""
_SOCKET_TIMEOUT: Final = 30.0
"""Seconds after which a silent connection is given up."""
_MALFORMED: Final = (
    "user name and password must be percent-encoded (urllib.parse.quote_plus) and hosts separated by commas"
)


class ChangeStream(Protocol):
    """What both drivers' change streams have in common."""

    @property
    def alive(self) -> bool: ...
    async def try_next(self) -> Mapping[str, Any] | None: ...
    async def close(self) -> None: ...


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where results are kept, and how to connect.

    Attributes:
        url: the URL for the driver; holds the credentials, if any.
        options: the client's options beside those in the URL.
        motor: whether Motor is the driver.
        database, tasks, groups, streams, runners: names of the database and of its collections.
        location: hosts and database, for messages.
    """

    url: str
    options: dict[str, Any]
    motor: bool
    database: str
    tasks: str
    groups: str
    streams: str
    runners: str
    location: str

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("location", self.location)]

    def __repr__(self) -> str:
        return f"Target({self.location})"


def target_of(url: str, settings: Settings) -> Target:
    """Return the target for ``url`` and ``mongodb_backend_settings``; the latter wins, as in Celery.

    Raises:
        SettingsError: either cannot be understood.
        MissingDriver: Motor is requested, but not installed.
    """
    driver_url, motor = _split_scheme(url)
    if motor:
        _import_motor()
    extra = dict(settings.mongodb_backend_settings or {})
    host, port, hosts = extra.pop("host", None), extra.pop("port", None), extra.pop("mongo_host", None)
    names = {
        "database": extra.pop("database", None) or _parse(driver_url)["database"] or _DATABASE,
        "tasks": extra.pop("taskmeta_collection", "celery_taskmeta"),
        "groups": extra.pop("groupmeta_collection", "celery_groupmeta"),
        "streams": extra.pop("taskstream_collection", "celery_taskstream"),
        "runners": extra.pop("taskrunner_collection", "celery_taskrunner"),
    }
    if hosts or host or port:
        driver_url = _with_hosts(driver_url, hosts or host or "localhost", port or 27017)
    user = {"username": extra.pop("user", None), "password": extra.pop("password", None)}
    options = {name: value for name, value in user.items() if value} | extra.pop("options", {}) | extra
    options.pop("connect", None)  # it is for blocking clients, which connect at once without it
    _check_options(options)
    return Target(
        url=driver_url,
        options=_completed(driver_url, options, settings),
        motor=motor,
        location=f"mongodb://{_hosts_of(driver_url)}/{names['database']}",
        **names,
    )


def target_of_client(client: Client, default: Target, settings: Settings) -> Target:
    """Return the target of a ready client. The database is that of the settings, of its URL, or of ``default``."""
    named = (settings.mongodb_backend_settings or {}).get("database")
    database = named or client.get_default_database(default.database).name
    topology: Any = client.topology_description  # Motor declares a method, but it is a property
    hosts = [f"{host}:{port}" if port else host for host, port in topology.server_descriptions()]
    return msgspec.structs.replace(
        default,
        url="",
        options={},
        motor=not isinstance(client, AsyncMongoClient),
        database=database,
        location=f"mongodb://{','.join(sorted(hosts))}/{database}",
    )


def _split_scheme(url: str) -> tuple[str, bool]:
    """Return the URL for the driver, and whether Motor is the driver."""
    scheme, _, rest = url.partition("://")
    family, *parts = scheme.lower().split("+")
    if family != "mongodb" or not {"srv", "motor"}.issuperset(parts):
        raise SettingsError(
            f"no MongoDB URL begins with {scheme}://; use mongodb://, mongodb+srv://, mongodb+motor:// or "
            f"mongodb+srv+motor://"
        )
    return f"mongodb{'+srv' if 'srv' in parts else ''}://{rest or 'localhost'}", "motor" in parts


def _parse(url: str) -> Mapping[str, Any]:
    """Check a URL's syntax and options, without resolving the name of a ``mongodb+srv`` one."""
    try:
        return parse_uri(url.replace("mongodb+srv://", "mongodb://", 1), warn=False)
    except (PyMongoError, ValueError, TypeError, OSError) as exc:
        # PyMongo quotes a part of a malformed URL, which may be a piece of the password.
        unclear = isinstance(exc, InvalidURI) or "@" in url.partition("?")[2]
        reason = _MALFORMED if unclear else _wrong_option(url, exc) or str(exc)
    raise SettingsError(f"the MongoDB URL cannot be understood: {reason}")


def _wrong_option(url: str, exc: Exception) -> str:
    """Return which option of ``url`` is unknown, or names an unreadable file, because PyMongo does not say it."""
    for name, _, value in (option.partition("=") for option in url.partition("?")[2].split("&")):
        if name and name.lower() not in pymongo.common.VALIDATORS:
            return f"the option {name!r} is not known"
        if unquote(value) == getattr(exc, "filename", None):
            return f"the option {name!r} names a file that cannot be read: {exc}"
    return ""


def _with_hosts(url: str, hosts: str | Sequence[str], port: int) -> str:
    """Return ``url`` with other hosts, keeping its credentials and options; ``hosts`` may also be a whole URL."""
    if isinstance(hosts, str):
        if hosts.startswith(("mongodb://", "mongodb+srv://")):
            return hosts
        hosts = [hosts]
    netloc, slash, rest = url.partition("://")[2].partition("/")
    credentials, at, _ = netloc.rpartition("@")
    return f"mongodb://{credentials}{at}{','.join(_with_port(host, port) for host in hosts)}{slash}{rest}"


def _with_port(host: str, port: int) -> str:
    return host if ":" in host.rpartition("]")[2] or host.endswith(".sock") else f"{host}:{port}"


def _hosts_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name in ("host", "port"):
            raise SettingsError(f"mongodb_backend_settings: the option {name!r} is not known here")
        try:
            pymongo.common.validate(name, value)
        except (PyMongoError, ValueError, TypeError, OSError) as exc:
            reason = "its value is not valid" if name.lower() == "password" else str(exc)
            raise SettingsError(f"mongodb_backend_settings: the option {name!r} is refused: {reason}") from None


def _completed(url: str, options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return ``options`` with defaults for what neither they nor the URL set, and with enough connections."""
    given = {name.lower(): value for name, value in {**_parse(url)["options"], **options}.items()}
    milliseconds = settings.connect_timeout * 1000
    ours = {
        **_POOL,
        "serverSelectionTimeoutMS": milliseconds,
        "connectTimeoutMS": milliseconds,
        "socketTimeoutMS": _SOCKET_TIMEOUT * 1000,
        "appName": "aioresult",
    }
    if given.get("maxpoolsize") in (1, 2):
        options = {name: value for name, value in options.items() if name.lower() != "maxpoolsize"} | {"maxPoolSize": 3}
    return {**{name: value for name, value in ours.items() if name.lower() not in given}, **options}


def _import_motor() -> type[AsyncIOMotorClient[Document]]:
    try:
        from motor.motor_asyncio import AsyncIOMotorClient
    except ImportError as exc:
        instead = "use mongodb://, which needs PyMongo alone"
        raise missing_driver("motor", "mongodb+motor://", "mongodb", instead) from exc
    return AsyncIOMotorClient


def open_client(target: Target) -> Client:
    """Make the client that ``target`` describes, for the running loop; it connects at its first call."""
    if target.motor:
        return _import_motor()(target.url, io_loop=asyncio.get_running_loop(), **target.options)
    return AsyncMongoClient(target.url, **target.options)


def is_client(client: object) -> TypeGuard[Client]:
    """Return whether ``client`` is an asynchronous client of PyMongo or Motor."""
    return isinstance(client, AsyncMongoClient) or type(client).__name__ == "AsyncIOMotorClient"


async def close_client(client: Client, timeout: float) -> None:
    """Close a client of either driver. It tells the server, and waits for the answer at most ``timeout`` seconds."""
    with pymongo.timeout(timeout):
        if isinstance(client, AsyncMongoClient):
            await client.close()
        else:
            await asyncio.to_thread(client.close)  # Motor's own method would block the loop


class Handles(NamedTuple):
    """The database and its collections, with the options that the store relies on."""

    database: Database
    tasks: Collection
    groups: Collection
    streams: Collection
    runners: Collection


def open_handles(client: Client, target: Target) -> Handles:
    """Return the handles of ``target``, independent of the client's own options.

    Reads go to the primary and see what it has applied. Otherwise a result that was stored just before the change
    stream was opened could be missed by both the stream and the read that follows.
    """
    acknowledged = client.write_concern.acknowledged
    database: Database = client.get_database(
        target.database,
        codec_options=READING,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=None if acknowledged else WriteConcern(w=1),
    )
    names = (target.tasks, target.groups, target.streams, target.runners)
    return Handles(database, *(database.get_collection(name) for name in names))


async def hello(database: Database) -> Document:
    """Return the server's description of itself."""
    try:
        return await database.command("hello")
    except OperationFailure as exc:
        if exc.code != _NO_SUCH_COMMAND:
            raise
        return await database.command("isMaster")  # the name of the command on older servers


async def aggregate(collection: Collection, pipeline: list[Document], number: int) -> list[Document]:
    """Return the documents of a pipeline, ``number`` of them in one reply if possible."""
    opening = collection.aggregate(pipeline, batchSize=number)
    cursor = await opening if inspect.isawaitable(opening) else opening
    documents: list[Document] = await cursor.to_list(None)
    return documents


async def open_stream(collection: Collection, **options: Any) -> ChangeStream:
    """Open a change stream; it is effective on return."""
    opening = collection.with_options(read_concern=ReadConcern("majority")).watch(**options)
    stream = await opening if inspect.isawaitable(opening) else opening
    entered: ChangeStream = await stream.__aenter__()  # Motor opens the cursor here
    return entered
