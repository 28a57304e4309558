"""Parsing a database URL: the asynchronous driver, and the location for messages."""

from __future__ import annotations

import importlib.util
import re
from itertools import zip_longest
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from aioresult.errors import MissingDriver, SettingsError, missing_driver
from aioresult.stores.sqlalchemy.options import Given, connect_args

Family = Literal["sqlite", "postgresql", "mysql"]

_FAMILIES: Final[dict[str, Family]] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_DRIVERS: Final[dict[Family, dict[str, str]]] = {
    "sqlite": dict.fromkeys(("", "aiosqlite", "pysqlite"), "aiosqlite"),
    "postgresql": {
        **dict.fromkeys(("", "asyncpg"), "asyncpg"),
        **dict.fromkeys(("psycopg", "psycopg_async", "psycopg2", "psycopg2cffi"), "psycopg"),
    },
    "mysql": {
        **dict.fromkeys(("", "asyncmy", "pymysql", "mysqldb", "mysqlconnector", "mariadbconnector"), "asyncmy"),
        "aiomysql": "aiomysql",
    },
}
"""Asynchronous drivers, by the names in URLs; for Celery's synchronous drivers the nearest asynchronous one."""
_EXTRAS: Final[dict[Family, str]] = {"sqlite": "sqlalchemy", "postgresql": "postgresql", "mysql": "mysql"}

_WITHOUT_EXTRA: Final = frozenset({"aiomysql"})
"""Drivers that are in none of the extras."""

_FOR_SQLALCHEMY: Final[dict[Family, frozenset[str]]] = {
    "sqlite": frozenset("uri mode cache psow nolock immutable vfs modeof".split()),
    "postgresql": frozenset({"host", "port"}),
    "mysql": frozenset(),
}
"""Options that stay in the URL, because SQLAlchemy itself uses them."""
_SEVERAL_HOSTS: Final = re.compile(
    r"(?P<before>postgres(?:ql)?(?:\+\w+)?://(?:[^:/@]*(?::[^@]*)?@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>.*)",
    re.DOTALL | re.IGNORECASE,
)
_HOST: Final = re.compile(r"(?:\[(?P<ip>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d*))?")
_PORT: Final = "5432"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A database, as parsed from a URL.

    Attributes:
        url: SQLAlchemy's URL with the asynchronous driver; contains the credentials, and is never shown.
        family: its kind of SQL.
        location: host and database for messages, without credentials.
        options: the URL's options for connections; the other options are in ``url``.
    """

    url: URL
    family: Family
    location: str
    options: dict[str, Any] = {}

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("location", self.location)]

    def __repr__(self) -> str:
        return f"Target({self.location})"


def parse(text: str) -> Target:
    """Return the database that the URL ``text`` names.

    Raises:
        SettingsError: it is malformed, has an unknown option, or does not name an asynchronous driver.
        MissingDriver: the driver is not installed.
    """
    url = _split(text)
    family = family_of(url.get_backend_name())
    if family != "sqlite" and any("@" in part for part in (url.host or "", url.database or "", *url.query)):
        raise _malformed(text)  # probably the rest of a password that contains an '@'
    if family == "sqlite" and url.host:
        raise SettingsError(
            "the SQLite URL needs three slashes before a file: sqlite:///results.db is in the current folder, and "
            "sqlite:////var/results.db begins at the root"
        )
    name = url.drivername.partition("+")[2].lower()
    driver = _DRIVERS[family].get(name)
    if driver is None:
        known = ", ".join(sorted({f"{family}+{driver}" for driver in _DRIVERS[family].values()}))
        raise SettingsError(f"the driver {url.drivername!r} cannot be used here; known are {known}")
    _require(driver, family)
    backend = "mariadb" if url.get_backend_name() == "mariadb" else family
    url = url.set(drivername=f"{backend}+{driver}")
    own = _FOR_SQLALCHEMY[family]
    options = {option: value for option, value in url.query.items() if option not in own}
    location = location_of(url)
    connect_args(driver, Given(options, f"the URL {location}"))  # raises now if an option is wrong
    return Target(url=url.difference_update_query(list(options)), family=family, location=location, options=options)


def _split(text: str) -> URL:
    """Return SQLAlchemy's URL; several hosts, or a host with percent-encoding, are in its query."""
    several = _SEVERAL_HOSTS.fullmatch(text)
    try:
        url = make_url(several["before"] + several["after"] if several else text)
    except (ArgumentError, ValueError):
        raise _malformed(text) from None  # the original error may quote a part of the password
    if several:
        places = [_HOST.fullmatch(place) for place in several["hosts"].split(",")]
        if not all(places):
            raise _malformed(text)
        hosts = ",".join(unquote(place["ip"] or place["name"]) for place in places if place)
        ports = ",".join(place["port"] or _PORT for place in places if place)
        url = url.update_query_dict({"host": hosts, "port": ports})
    elif url.host and url.host != unquote(url.host):  # it is the folder of a socket
        url = url.set(host=None, port=None).update_query_dict(
            {"host": unquote(url.host), "port": str(url.port or _PORT)}
        )
    return url


def _malformed(text: str) -> SettingsError:
    scheme = text.partition("://")[0]
    return SettingsError(
        f"the {scheme}:// URL cannot be understood: it looks like "
        f"'{scheme}://user:password@host:port/database', or 'sqlite:///file.db'; "
        f"special characters of a password are percent-encoded, '@' as %40 and '/' as %2F"
    )


def family_of(backend: str) -> Family:
    """Return the family of SQLAlchemy's dialect ``backend``.

    Raises:
        SettingsError: it cannot be used here.
    """
    family = _FAMILIES.get(backend.lower())
    if family is None:
        raise SettingsError(
            f"the database {backend!r} cannot be used here; known are {', '.join(sorted(set(_FAMILIES)))}"
        )
    return family


def location_of(url: URL) -> str:
    """Return the location of ``url`` for messages."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return f"sqlite:///{url.database}" if url.database and url.database != ":memory:" else "sqlite:// (in memory)"
    hosts = _listed(url.query.get("host", url.host or "localhost"))
    ports = _listed(url.query.get("port", str(url.port or "")))
    named = [f"[{host}]" if host.count(":") > 1 else host for host in hosts]
    places = [f"{host}:{port}" if port else host for host, port in zip_longest(named, ports, fillvalue="")]
    shown = ",".join(places).rpartition("@")[2]  # the part before it may be the end of a password
    return f"{backend}://{shown}/{url.database or ''}"


def _listed(value: str | tuple[str, ...]) -> list[str]:
    return value.split(",") if isinstance(value, str) else list(value)


def _require(driver: str, family: Family) -> None:
    for module in (driver, "greenlet"):  # SQLAlchemy's asyncio part needs greenlet, but does not always install it
        if importlib.util.find_spec(module) is None:
            if module in _WITHOUT_EXTRA:
                raise MissingDriver(
                    f"the package {module!r} is needed for this store and is not installed: pip install {module}",
                    name=module,
                )
            raise missing_driver(module, "this store", _EXTRAS[family])
