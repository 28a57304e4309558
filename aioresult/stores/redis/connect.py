"""From URLs, settings and ready clients to connections; redis-py opens them and is then out of the way."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

import redis.asyncio.connection as driver
import redis.exceptions
from redis.credentials import CredentialProvider

from aioresult.errors import AioResultError, SettingsError, StoreUnavailable
from aioresult.settings import Settings
from aioresult.stores.redis.errors import Lost, ServerError, refused, unreachable
from aioresult.stores.redis.wire import Wire

AnyWire = TypeVar("AnyWire", bound=Wire)

_PROBE_INTERVAL: Final = 10.0
"""Seconds of silence after which a connection is asked for a sign of life, unless the settings say otherwise."""
_CERT_REQS: Final = {
    **dict.fromkeys(("none", "cert_none", str(int(ssl.CERT_NONE))), "none"),
    **dict.fromkeys(("optional", "cert_optional", str(int(ssl.CERT_OPTIONAL))), "optional"),
    **dict.fromkeys(("required", "cert_required", str(int(ssl.CERT_REQUIRED))), "required"),
}
_NOT_FOR_CONNECTIONS: Final = ("max_connections", "timeout", "decode_responses", "encoding", "encoding_errors", "retry")
_POOLS_OWN: Final = ("maint", "orig_", "oss_cluster_", "himport_", "event_dispatcher", "retry", "parser_class")


class Address:
    """Where a server is and how to connect to it.

    Attributes:
        location: host, port and database for messages; never a credential.
        options: what the connection is made with, credentials among it.
        connect_timeout: seconds that connecting may take, all in all.
        reply_timeout: seconds without a byte from a server that owes a reply, or ``None``.
        retry_on_timeout: whether a command is repeated after that.
        probe_interval: seconds of silence before a sign of life is asked for; 0 for never.
    """

    def __init__(
        self, connection_class: type[driver.AbstractConnection], options: Mapping[str, Any], settings: Settings
    ) -> None:
        self._connection_class = connection_class
        self.options = dict(options)
        self._keyprefix = settings.keyprefix
        interval = self.options.pop("health_check_interval", None)
        if interval is None:
            interval = settings.redis_backend_health_check_interval
        self.probe_interval: float = _PROBE_INTERVAL if interval is None else interval
        self.connect_timeout: float = _first(
            self.options.get("socket_connect_timeout"), settings.redis_socket_connect_timeout, settings.connect_timeout
        )
        self.reply_timeout: float | None = self.options.get("socket_timeout", settings.redis_socket_timeout)
        self.retry_on_timeout = bool(self.options.pop("retry_on_timeout", settings.redis_retry_on_timeout))
        self.options.update(socket_timeout=None, socket_connect_timeout=None)  # one deadline bounds the whole
        self._protocol: int | None = self.options.pop("protocol", None)
        self.location = self._describe()
        self.client: object = None
        """Kept alive, since the connections of a Sentinel refer to their pool weakly."""

    @property
    def encrypted(self) -> bool:
        """Whether it connects by TLS."""
        return issubclass(self._connection_class, driver.SSLConnection)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"

    def _describe(self) -> str:
        options = self.options
        place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return f"{place}/{options.get('db') or 0}"

    def check(self) -> None:
        """Find out whether the options are understood, without connecting.

        Raises:
            SettingsError: they are not.
        """
        if self._protocol not in (None, 2, 3):
            raise SettingsError(f"the Redis protocol is 2 or 3, not {self._protocol}")
        try:
            self._make(3)
        except (TypeError, ValueError, redis.exceptions.RedisError) as exc:
            raise SettingsError(f"the options for Redis at {self.location} are not understood: {exc}") from exc

    def _make(self, protocol: int) -> driver.AbstractConnection:
        return self._connection_class(**self.options, protocol=protocol)

    def refused(self, error: ServerError) -> AioResultError:
        """Return what an error reply of this server means."""
        return refused(error, self.location, self._keyprefix)

    def unreachable(self, exc: Exception) -> StoreUnavailable:
        """Return what a failure to connect, or of a connection, means."""
        return unreachable(exc, self.location)

    async def open(self, make_wire: Callable[[int], AnyWire]) -> AnyWire:
        """Connect, authenticate, choose the database, and return the wire that has taken over.

        Raises:
            StoreUnavailable: there is no connection to be had; ``AioResultError`` if an ACL right is missing.
        """
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection, protocol = await self._connect()
        except redis.exceptions.NoPermissionError as exc:
            raise self.refused(ServerError(f"NOPERM {exc}")) from exc
        except (redis.exceptions.RedisError, OSError) as exc:
            raise self.unreachable(exc) from exc
        return self._take_over(connection, make_wire(protocol))

    def _take_over(self, connection: driver.AbstractConnection, wire: AnyWire) -> AnyWire:
        reader, writer = connection._reader, connection._writer  # redis-py has no public way to its transport
        connection._reader = connection._writer = None  # so that it does not take itself for open
        if reader is None or writer is None:
            raise StoreUnavailable(f"Redis at {self.location} is unavailable: the connection ended at once")
        try:
            if reader.at_eof():
                raise Lost("the server closed the connection at once")
            wire.take_over(writer, bytes(getattr(reader, "_buffer", b"")))
        except Lost as exc:
            writer.transport.abort()
            wire.abort(exc)
            raise self.unreachable(exc) from exc
        return wire

    async def _connect(self) -> tuple[driver.AbstractConnection, int]:
        """Connect by RESP3 or, where the server does not know ``HELLO``, by RESP2."""
        if self._protocol is not None:
            return await self._connect_by(self._protocol), self._protocol
        try:
            return await self._connect_by(3), 3
        except redis.exceptions.RedisError as exc:
            if not _is_too_old(exc):
                raise
        # Outside of the handler: an old server's complaint quotes the whole HELLO, password included.
        connection = await self._connect_by(2)
        self._protocol = 2
        return connection, 2

    async def _connect_by(self, protocol: int) -> driver.AbstractConnection:
        connection = self._make(protocol)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's fault
        except BaseException:
            _discard(connection)
            raise
        return connection


def _is_too_old(exc: redis.exceptions.RedisError) -> bool:
    """Whether the server knows neither ``HELLO`` nor RESP3; unix sockets wrap that error in another."""
    cause = exc.__cause__ if isinstance(exc.__cause__, redis.exceptions.RedisError) else exc
    text = str(cause).upper()
    return type(cause) is redis.exceptions.ResponseError and ("UNKNOWN COMMAND" in text or "NOPROTO" in text)


def _discard(connection: driver.AbstractConnection) -> None:
    writer = connection._writer
    connection._reader = connection._writer = None
    if writer is not None:
        writer.transport.abort()


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def from_client(client: object, settings: Settings) -> Address:
    """Return the address that a redis-py client's connection pool connects to.

    Raises:
        SettingsError: the client is not an asynchronous one.
    """
    pool: Any = getattr(client, "connection_pool", client)
    if not (isinstance(pool.connection_class, type) and issubclass(pool.connection_class, driver.AbstractConnection)):
        raise SettingsError("a blocking redis-py client was given; hand over a redis.asyncio.Redis, or a URL")
    options = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name not in _NOT_FOR_CONNECTIONS and not name.startswith(_POOLS_OWN)
    }
    address = Address(pool.connection_class, options, settings)
    address.client = client
    return address


def from_url(url: str, settings: Settings) -> Address:
    """Return the address that a URL of one server means, settings filling in where it is silent.

    Raises:
        SettingsError: it cannot be understood.
    """
    parts = split(url)
    options = query_options(parts)
    scheme = parts.scheme.lower()
    connection_class: type[driver.AbstractConnection] = driver.Connection
    if scheme in ("redis+unix", "redis+socket", "unix"):
        connection_class = driver.UnixDomainSocketConnection
        options["path"] = unquote(parts.path)
        if not parts.path.strip("/") or parts.hostname:
            raise SettingsError("the URL of a Unix socket looks like 'redis+unix:///path/to/redis.sock?db=0'")
        options["db"] = database(options, "", settings)
    elif scheme in ("redis", "rediss"):
        options["host"] = unquote(parts.hostname or "") or settings.redis_host or "localhost"
        options["port"] = port_of(parts) or settings.redis_port or 6379
        options["db"] = database(options, parts.path, settings)
        connection_class = secure(scheme == "rediss", options, settings, driver.Connection, driver.SSLConnection)
    else:
        raise SettingsError(f"{parts.scheme}:// is no scheme of a Redis URL; use redis://, rediss:// or redis+unix://")
    authenticate(parts, options, settings)
    return Address(connection_class, common(options, settings), settings)


def split(url: str) -> SplitResult:
    """Split a URL; what is wrong with it is told without quoting it, since it may hold a password."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises if it is no number)
    except ValueError as exc:
        raise SettingsError("the Redis URL is malformed: host or port cannot be understood") from exc
    return parts


def port_of(parts: SplitResult) -> int | None:
    """Return the port of a URL that ``split`` has accepted."""
    return parts.port


def query_options(parts: SplitResult) -> dict[str, Any]:
    """Return the options of a URL's query, converted as redis-py converts them."""
    options: dict[str, Any] = {}
    for name, values in parse_qs(parts.query, keep_blank_values=True).items():
        try:
            parsed: Mapping[str, Any] = driver.parse_url(f"redis://?{urlencode({name: values[0]})}")
        except ValueError as exc:
            raise SettingsError(f"the Redis URL's option {name!r} has a value that cannot be understood") from exc
        options.update(parsed or {name: values[0]})
    return options


def database(options: dict[str, Any], path: str, settings: Settings) -> int:
    """Return the number of the database: ``db``, ``virtual_host``, the path, the setting, or 0."""
    virtual_host = options.pop("virtual_host", None)
    text = str(options.get("db", "")) or virtual_host or unquote(path)
    text = text.strip("/")
    if not text:
        return settings.redis_db or 0
    if not text.isdecimal():
        raise SettingsError(f"a Redis database is a number, not {text!r}")
    return int(text)


def authenticate(parts: SplitResult, options: dict[str, Any], settings: Settings) -> None:
    """Add user and password, or the provider of credentials, which wins over them."""
    provider = options.pop("credential_provider", None) or settings.redis_backend_credential_provider
    if provider is not None:
        options["credential_provider"] = _provider(provider)
        options.pop("username", None)
        options.pop("password", None)
        return
    username = unquote(parts.username or "") or options.get("username") or settings.redis_username
    password = unquote(parts.password or "") or options.get("password") or settings.redis_password
    if password:
        options["password"] = password
    if username:
        options["username"] = username


def _provider(value: object) -> CredentialProvider:
    if isinstance(value, str):
        module, _, name = value.rpartition(".")
        try:
            value = getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError, ValueError) as exc:
            raise SettingsError(f"the credential provider {value!r} cannot be imported: {exc}") from exc
    if not isinstance(value, CredentialProvider):
        raise SettingsError(f"a credential provider is a redis.CredentialProvider, not a {type(value).__name__}")
    return value


def secure(
    wanted: bool,
    options: dict[str, Any],
    settings: Settings,
    plain: type[driver.AbstractConnection],
    encrypted: type[driver.AbstractConnection],
) -> type[driver.AbstractConnection]:
    """Return the class to connect by, and add the options of TLS; certificates are verified unless told otherwise."""
    extra = settings.redis_backend_use_ssl
    if extra is not None and not isinstance(extra, Mapping | bool):
        raise SettingsError(
            f"setting redis_backend_use_ssl: expected a dict of ssl_* options, got {type(extra).__name__}"
        )
    if isinstance(extra, Mapping):
        for name, value in extra.items():
            options.setdefault(name if name.startswith("ssl_") else f"ssl_{name}", value)
    if not wanted and not extra:
        if stray := [name for name in options if name.startswith("ssl_")]:
            raise SettingsError(f"the option {stray[0]} is for rediss:// URLs, but this one is redis://")
        return plain
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = _cert_reqs(options["ssl_cert_reqs"])
    return encrypted


def _cert_reqs(value: object) -> str:
    text = "none" if value is None else str(int(value)) if isinstance(value, int) else str(value).lower()
    if text not in _CERT_REQS:
        raise SettingsError(f"ssl_cert_reqs is one of required, optional, none (or CERT_REQUIRED, ...), not {value!r}")
    return _CERT_REQS[text]


def common(options: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Add what all kinds of connection have in common, and drop what only a pool of redis-py understands."""
    if settings.redis_client_name is not None:
        options.setdefault("client_name", settings.redis_client_name)
    if settings.redis_socket_keepalive and "path" not in options:
        options.setdefault("socket_keepalive", True)
    return {name: value for name, value in options.items() if name not in _NOT_FOR_CONNECTIONS}
