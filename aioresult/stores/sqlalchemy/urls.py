"""What a database URL means: which asynchronous driver, and how the place is named in messages."""

from __future__ import annotations

import importlib.util
from typing import Any, Final, Literal

import msgspec
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from aioresult.errors import MissingDriver, SettingsError

Family = Literal["sqlite", "postgresql", "mysql"]

_FAMILIES: Final[dict[str, Family]] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_DRIVERS: Final[dict[Family, dict[str, str]]] = {
    "sqlite": {"": "aiosqlite", "aiosqlite": "aiosqlite", "pysqlite": "aiosqlite"},
    "postgresql": {
        "": "asyncpg",
        "asyncpg": "asyncpg",
        "psycopg": "psycopg",
        "psycopg_async": "psycopg",
        "psycopg2": "psycopg",
        "psycopg2cffi": "psycopg",
    },
    "mysql": {"": "asyncmy", "asyncmy": "asyncmy", "pymysql": "asyncmy", "mysqldb": "asyncmy", "aiomysql": "aiomysql"},
}
"""Asynchronous drivers, by the names in URLs; Celery's synchronous ones stand for the nearest asynchronous one."""
_EXTRAS: Final[dict[Family, str]] = {"sqlite": "sqlalchemy", "postgresql": "postgresql", "mysql": "mysql"}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A database, as parsed from a URL.

    Attributes:
        url: SQLAlchemy's URL with the asynchronous driver; carries the credentials, and is never shown.
        family: which kind of SQL it speaks.
        location: the place as shown in messages, without credentials.
        connect_args: arguments of the driver that the URL spelled in another driver's way.
    """

    url: URL
    family: Family
    location: str
    connect_args: dict[str, Any] = {}

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("location", self.location)]

    def __repr__(self) -> str:
        return f"Target({self.location})"


def parse(text: str) -> Target:
    """Return what ``text`` means.

    Raises:
        SettingsError: it is malformed, or names a driver that is not asynchronous.
        MissingDriver: the driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise _malformed(text) from None  # the original quotes what may be a part of the password
    family = family_of(url.get_backend_name())
    if family != "sqlite" and any("@" in part for part in (url.host or "", url.database or "", *url.query)):
        raise _malformed(text)  # the rest of a password with an '@' in it
    name = url.drivername.partition("+")[2].lower()
    driver = _DRIVERS[family].get(name)
    if driver is None:
        known = ", ".join(sorted({f"{family}+{driver}" for driver in _DRIVERS[family].values()}))
        raise SettingsError(f"{url.drivername!r} is no asynchronous driver that can be used here; known are {known}")
    _require(driver, family)
    backend = "mariadb" if url.get_backend_name() == "mariadb" else family
    url, connect_args = _respell(url.set(drivername=f"{backend}+{driver}"), driver)
    return Target(url=url, family=family, location=location_of(url), connect_args=connect_args)


def _malformed(text: str) -> SettingsError:
    scheme = text.partition("://")[0]
    return SettingsError(
        f"the database URL beginning with {scheme}:// cannot be understood; it looks like "
        f"'{scheme}://user:password@host:port/database', or 'sqlite:///file.db'; "
        f"special characters of a password are percent-encoded, '@' as %40 and '/' as %2F"
    )


def family_of(backend: str) -> Family:
    """Return the family of SQLAlchemy's dialect ``backend``.

    Raises:
        SettingsError: it is none of those that can be used here.
    """
    family = _FAMILIES.get(backend.lower())
    if family is None:
        raise SettingsError(
            f"databases of kind {backend!r} cannot be used here, only {', '.join(sorted(set(_FAMILIES)))}"
        )
    return family


def location_of(url: URL) -> str:
    """Return the place that ``url`` names, as shown in messages."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return f"sqlite:///{url.database}" if url.database and url.database != ":memory:" else "sqlite:// (in memory)"
    port = f":{url.port}" if url.port else ""
    host = (url.host or "localhost").rpartition("@")[2]  # what precedes it may be the end of somebody's password
    return f"{backend}://{host}{port}/{url.database or ''}"


def _require(driver: str, family: Family) -> None:
    for module in (
        driver,
        "greenlet",
    ):  # SQLAlchemy's asyncio part is built on greenlet, which it does not always install
        if importlib.util.find_spec(module) is None:
            raise MissingDriver(
                f"the package {module!r} is needed for this store and is not installed: "
                f'pip install "aioresult-backend[{_EXTRAS[family]}]"',
                name=module,
            )


def _respell(url: URL, driver: str) -> tuple[URL, dict[str, Any]]:
    """Translate what libpq's drivers take in a URL's query, and asyncpg takes under other names."""
    if driver != "asyncpg":
        return url, {}
    connect_args: dict[str, Any] = {}
    if "sslmode" in url.query:
        connect_args["ssl"] = url.query["sslmode"]
    if "connect_timeout" in url.query:
        connect_args["timeout"] = _seconds(url.query["connect_timeout"])
    if "application_name" in url.query:
        connect_args["server_settings"] = {"application_name": url.query["application_name"]}
    return url.difference_update_query(["sslmode", "connect_timeout", "application_name"]), connect_args


def _seconds(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise SettingsError("the database URL's connect_timeout is a number of seconds") from None
