"""Addresses: where a server is and how to connect. redis-py opens a connection and has no part in it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import redis.asyncio.connection as driver
import redis.exceptions

from aioresult.errors import AioResultError, SettingsError, StoreUnavailable
from aioresult.settings import Settings
from aioresult.stores.certificates import advice_on_certificate
from aioresult.stores.redis.errors import ConnectionLost, ServerError, refused, unreachable
from aioresult.stores.redis.schemes import advice
from aioresult.stores.redis.wire import Wire

AnyWire = TypeVar("AnyWire", bound=Wire)

try:
    from redis.driver_info import DriverInfo
except ImportError:  # redis-py before 7.2
    DRIVER_INFO: Mapping[str, Any] = {}
else:
    DRIVER_INFO = {"driver_info": DriverInfo()}
    """How a connection identifies its client. Without this, redis-py reads its own version from the disk for each
    one."""
_PROBE_INTERVAL: Final = 10.0
"""Seconds of silence after which a connection is tested by ``PING``, unless the settings say otherwise."""
NOT_FOR_CONNECTIONS: Final = ("max_connections", "timeout", "decode_responses", "encoding", "encoding_errors", "retry")
_PROTOCOLS: Final[Mapping[str, int | None]] = {"None": None, "2": 2, "3": 3}
"""Older versions of redis-py leave the number in a URL as text."""
_HERE: Final[Mapping[str, Any]] = {}
_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_CLIENTS_OWN: Final = (
    "maint", "orig_", "oss_cluster_", "himport_", "event_dispatcher", "retry", "parser_class", "redis_connect_func",
)  # fmt: skip


class Address:
    """Where a server is and how to connect to it.

    Attributes:
        location: host, port and database for messages; never a credential.
        options: the options of the connection, including credentials.
        connect_timeout: seconds that connecting may take in total.
        reply_timeout: seconds without a byte while replies are outstanding, or ``None``.
        retry_on_timeout: whether a command is repeated after that time.
        probe_interval: seconds of silence before a ``PING``; 0 for never.
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
        timeouts = self.options.get("socket_connect_timeout"), settings.redis_socket_connect_timeout
        self.connect_timeout: float = next((each for each in timeouts if each is not None), settings.connect_timeout)
        self.reply_timeout: float | None = self.options.get("socket_timeout", settings.redis_socket_timeout)
        self.retry_on_timeout = bool(self.options.pop("retry_on_timeout", settings.redis_retry_on_timeout))
        self.options.update(socket_timeout=None, socket_connect_timeout=None)  # one deadline limits the whole
        protocol = self.options.pop("protocol", None)
        self._protocol = _PROTOCOLS.get(str(protocol), 0)
        self.location = self._describe()
        self._reached = False
        self._tried: Mapping[str, Any] = {}
        self.client: object = None
        """Keeps the client alive, since connections of a Sentinel hold only a weak reference to their pool."""

    @property
    def encrypted(self) -> bool:
        """Whether it connects with TLS."""
        return issubclass(self._connection_class, driver.SSLConnection)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"

    def _describe(self) -> str:
        options = self.options
        pool = options.get("connection_pool")  # the pool of a client that uses sentinels
        service = getattr(pool, "service_name", None)
        place = service or options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return f"{place}/{options.get('db') or 0}"

    def check(self) -> None:
        """Check the options, without connecting.

        Raises:
            SettingsError: an option is not understood.
        """
        if self._protocol == 0:
            raise SettingsError("the Redis URL: the option 'protocol' has to be 2 or 3")
        with self._understood():
            self._make(3)
        for name in _FILES:  # OpenSSL would not say which file is missing
            if (path := self.options.get(name)) and not Path(path).exists():
                raise SettingsError(f"Redis at {self.location}: the option {name} names {path!r}, which does not exist")

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError, redis.exceptions.RedisError) as exc:
            raise SettingsError(f"the options for Redis at {self.location} cannot be used: {exc}") from exc

    def _make(self, protocol: int, place: Mapping[str, Any] = _HERE) -> driver.AbstractConnection:
        own = self.options.keys() & {"driver_info", "lib_name", "lib_version"}
        return self._connection_class(**(_HERE if own else DRIVER_INFO), **self.options, **place, protocol=protocol)

    async def _find(self) -> Mapping[str, Any]:
        """Return host and port, if they are not among the options because they may change."""
        return _HERE

    def refused(self, error: ServerError) -> AioResultError:
        """Return the error to raise for an error reply of this server."""
        return refused(error, self.location, self._keyprefix)

    def unreachable(self, exc: Exception, advice: str = "") -> StoreUnavailable:
        """Return the error to raise when connecting, or a connection, has failed, with advice on the URL if given."""
        return unreachable(exc, self.location, advice)

    async def open(self, make_wire: Callable[[int], AnyWire]) -> AnyWire:
        """Connect, authenticate, choose the database, and return the wire that takes over the connection.

        Raises:
            StoreUnavailable: connecting failed; ``AioResultError`` if an ACL right is missing.
        """
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection, protocol = await self._connect()
        except redis.exceptions.NoPermissionError as exc:
            raise self.refused(ServerError(f"NOPERM {exc}")) from exc
        except (redis.exceptions.RedisError, OSError) as exc:
            raise self.unreachable(exc, await self._advice(exc)) from exc
        self._reached = True
        return self._take_over(connection, make_wire(protocol))

    async def _advice(self, exc: Exception) -> str:
        """Return what to change about TLS in the URL, if no connection has succeeded yet."""
        if advice_for_certificate := advice_on_certificate(str(exc).rstrip(")."), "ssl_ca_certs"):
            return advice_for_certificate
        place = {**self.options, **self._tried}
        unanswered = type(exc) is redis.exceptions.ConnectionError or (self.encrypted and isinstance(exc, TimeoutError))
        if self._reached or not unanswered or "host" not in place:
            return ""
        return await advice(place["host"], int(place["port"]), encrypted=self.encrypted)

    def _take_over(self, connection: driver.AbstractConnection, wire: AnyWire) -> AnyWire:
        reader, writer = connection._reader, connection._writer  # redis-py has no public way to its transport
        connection._reader = connection._writer = None  # so that redis-py considers it closed
        if reader is None or writer is None:
            raise StoreUnavailable(f"Redis at {self.location} is unavailable: the connection ended at once")
        try:
            if reader.at_eof():
                raise ConnectionLost("the server closed the connection at once")
            wire.take_over(writer, bytes(getattr(reader, "_buffer", b"")))
        except ConnectionLost as exc:
            writer.transport.abort()
            wire.abort(exc)
            raise self.unreachable(exc) from exc
        return wire

    async def _connect(self) -> tuple[driver.AbstractConnection, int]:
        """Connect; without a name for the connection, which only operators see, if the user may not set one."""
        try:
            return await self._agree_and_connect()
        except redis.exceptions.NoPermissionError:
            if self.options.pop("client_name", None) is None:
                raise
        return await self._agree_and_connect()

    async def _agree_and_connect(self) -> tuple[driver.AbstractConnection, int]:
        """Connect with RESP3 or, if the server does not know ``HELLO``, with RESP2."""
        if self._protocol is not None:
            return await self._connect_by(self._protocol), self._protocol
        try:
            return await self._connect_by(3), 3
        except redis.exceptions.RedisError as exc:
            if not _is_too_old(exc):
                raise
        # Outside the handler, because an old server's error quotes the whole HELLO with the password.
        connection = await self._connect_by(2)
        self._protocol = 2
        return connection, 2

    async def _connect_by(self, protocol: int) -> driver.AbstractConnection:
        self._tried = await self._find()
        connection = self._make(protocol, self._tried)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py lacks the type
        except BaseException:
            writer = connection._writer
            connection._reader = connection._writer = None
            if writer is not None:
                writer.transport.abort()
            raise
        return connection


def _is_too_old(exc: redis.exceptions.RedisError) -> bool:
    """Return whether the server knows neither ``HELLO`` nor RESP3; for unix sockets the error is wrapped in another."""
    cause = exc.__cause__ if isinstance(exc.__cause__, redis.exceptions.RedisError) else exc
    text = str(cause).upper()
    return type(cause) is redis.exceptions.ResponseError and ("UNKNOWN COMMAND" in text or "NOPROTO" in text)


def from_client(client: object, settings: Settings) -> Address:
    """Return the address that a redis-py client's connection pool connects to.

    Raises:
        SettingsError: the client is not an asynchronous one.
    """
    pool: Any = getattr(client, "connection_pool", client)
    if not (isinstance(pool.connection_class, type) and issubclass(pool.connection_class, driver.AbstractConnection)):
        raise SettingsError(
            f"expected a URL or a redis.asyncio.Redis, not {type(client).__module__}.{type(client).__name__}; "
            f"a blocking client would stop the event loop"
        )
    address = Address(pool.connection_class, clients_options(pool.connection_kwargs), settings)
    address.client = client
    return address


def clients_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a redis-py client that apply to our connections."""
    return {
        name: value
        for name, value in options.items()
        if name not in NOT_FOR_CONNECTIONS and not name.startswith(_CLIENTS_OWN)
    }
