"""From URLs and settings to addresses."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

import redis.asyncio.connection as driver
from redis.credentials import CredentialProvider

from aioresult.errors import SettingsError
from aioresult.settings import Settings
from aioresult.stores.redis.connect import NOT_FOR_CONNECTIONS, Address
from aioresult.stores.redis.sentinel import SentinelAddress

_SENTINEL_SCHEMES: Final = ("sentinel", "redis+sentinel", "rediss+sentinel")
_SOCKET_SCHEMES: Final = ("unix", "socket", "redis+unix", "redis+socket")
_SENTINEL_OPTIONS: Final = (
    *("master_name", "min_other_sentinels", "sentinel_kwargs", "sentinel_username", "sentinel_password"),
)
_MAY_HOLD_AT: Final = ("name", "password")
"""Suffixes of options whose value may hold a plain ``@``; so may the options of TLS, which name files."""
_CERT_REQS: Final = {
    **dict.fromkeys(("none", "cert_none", str(int(ssl.CERT_NONE))), "none"),
    **dict.fromkeys(("optional", "cert_optional", str(int(ssl.CERT_OPTIONAL))), "optional"),
    **dict.fromkeys(("required", "cert_required", str(int(ssl.CERT_REQUIRED))), "required"),
}


def as_redis(scheme: str) -> str:
    """Return ``scheme`` in lower case, with Redis for Valkey, which has the same protocol."""
    scheme = scheme.lower()
    return f"redis{scheme.removeprefix('valkey')}" if scheme.startswith("valkey") else scheme


def from_url(url: str, settings: Settings) -> Address:
    """Return the address for a URL; settings are used for what the URL does not contain.

    Raises:
        SettingsError: it cannot be understood.
    """
    scheme = as_redis(url.partition("://")[0])
    if scheme in _SENTINEL_SCHEMES:
        return _sentinels(url, settings)
    parts = split(url)
    host, port = _place(parts)
    options = query_options(parts)
    if scheme in _SOCKET_SCHEMES:
        options["path"] = unquote(parts.path)
        if not parts.path.strip("/") or host:
            raise SettingsError(
                "the Redis URL cannot be understood: that of a Unix socket looks like "
                "'unix:///path/to/redis.sock?db=0', with three slashes"
            )
        options["db"] = database(options, "", settings)
    elif scheme in ("redis", "rediss"):
        options["host"] = host or settings.redis_host or "localhost"
        options["port"] = port or settings.redis_port or 6379
        options["db"] = database(options, parts.path, settings)
    else:
        raise SettingsError(f"no Redis URL begins with {parts.scheme}://; use redis://, rediss:// or unix://")
    return Address(*connection_of(parts, options, settings), settings)


def connection_of(
    parts: SplitResult, options: dict[str, Any], settings: Settings
) -> tuple[type[driver.AbstractConnection], dict[str, Any]]:
    """Return the connection class for a URL, and ``options`` with user, password, TLS and the settings added."""
    connection_class = _connection_class(as_redis(parts.scheme), options, settings)
    _authenticate(parts, options, settings)
    if settings.redis_client_name is not None:
        options.setdefault("client_name", settings.redis_client_name)
    if settings.redis_socket_keepalive and "path" not in options:
        options.setdefault("socket_keepalive", True)
    return connection_class, {name: value for name, value in options.items() if name not in NOT_FOR_CONNECTIONS}


def _sentinels(url: str, settings: Settings) -> SentinelAddress:
    """Return the address of a URL with sentinels.

    Celery separates whole URLs by semicolons; database, user and password are those of the first. Other programs list
    all hosts in one URL, separated by commas, with the service's name before the database.
    """
    chunks = _chunks(url)
    first = chunks[0]
    options: dict[str, Any] = {}
    for chunk in reversed(chunks):
        options.update(query_options(chunk))
    given = {**settings.result_backend_transport_options, **options}
    path, _, number = unquote(first.path).strip("/").rpartition("/")
    service = given.get("master_name") or path
    if not path and number and not number.isdecimal():
        service, number = service or number, ""
    if not service:
        raise SettingsError(
            "the name of the service that the sentinels watch is missing; put it into the URL (redis+sentinel://host:26379/"
            "mymaster/0) or into result_backend_transport_options={'master_name': 'mymaster'}"
        )
    own = dict(given.get("sentinel_kwargs") or {})
    own.update({name: given[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in given})
    for name in _SENTINEL_OPTIONS:
        options.pop(name, None)
    options["db"] = database(options, number, settings)
    return SentinelAddress(
        [(host, port or 26379) for chunk in chunks for host, port in hosts(chunk.netloc)],
        str(service),
        _number(given.get("min_other_sentinels") or 0, "the option 'min_other_sentinels'"),
        own,
        *connection_of(first, options, settings),
        settings,
    )


def _chunks(url: str) -> list[SplitResult]:
    chunks = [split(chunk if "://" in chunk else f"sentinel://{chunk}") for chunk in url.split(";") if chunk]
    if "@" not in chunks[0].netloc and any("@" in chunk.netloc for chunk in chunks):
        raise _malformed()  # a semicolon in the password
    return chunks


def split(url: str) -> SplitResult:
    """Split a URL; errors do not quote it, since it may hold a password.

    Raises:
        SettingsError: it cannot be split, or a password seems to contain a separator.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _malformed() from None  # the original error may quote a part of the password
    behind = parts.path if parts.netloc else ""  # without a host part, this is the path of a file
    if "@" in behind + parts.fragment or any(map(_holds_password, parts.query.split("&"))):
        raise _malformed()
    return parts


def _holds_password(option: str) -> bool:
    """Return whether an option of a query looks like the rest of a password that contains a ``?``."""
    name, _, value = option.partition("=")
    return "@" in name or ("@" in value and not name.endswith(_MAY_HOLD_AT) and not name.startswith("ssl_"))


def hosts(netloc: str) -> list[tuple[str, int | None]]:
    """Return the hosts and ports of a URL's host part, which may name several, separated by commas."""
    return [_place(split(f"//{place}")) for place in netloc.rpartition("@")[2].split(",") if place]


def _place(parts: SplitResult) -> tuple[str, int | None]:
    try:
        return unquote(parts.hostname or ""), parts.port
    except ValueError:
        raise _malformed() from None


def _malformed() -> SettingsError:
    return SettingsError(
        "the Redis URL cannot be understood: look at host and port, and percent-encode user and password: in them, "
        "'/', '@', '#', '?', '[' and ';' are written as %2F, %40, %23, %3F, %5B and %3B"
    )


def query_options(parts: SplitResult) -> dict[str, Any]:
    """Return the options of a URL's query, converted as redis-py converts them."""
    options: dict[str, Any] = {}
    for name, values in parse_qs(parts.query, keep_blank_values=True).items():
        try:
            parsed: Mapping[str, Any] = driver.parse_url(f"redis://?{urlencode({name: values[0]})}")
        except ValueError as exc:
            raise SettingsError(f"the Redis URL: the option {name!r} has a value that cannot be understood") from exc
        options.update(parsed or {name: values[0]})
    return options


def database(options: dict[str, Any], path: str, settings: Settings) -> int:
    """Return the number of the database: ``db``, the path or, for a Unix socket, ``virtual_host``; the setting, or 0.

    Celery, whose word ``virtual_host`` is, pays no attention to it in other URLs.
    """
    virtual_host = options.pop("virtual_host", "")
    text = str(options.get("db", "")) or (virtual_host if "path" in options else unquote(path))
    text = text.strip("/")
    if not text:
        return settings.redis_db or 0
    return _number(text, "the database")


def _number(value: object, what: str) -> int:
    if not str(value).isdecimal():
        raise SettingsError(f"the Redis URL: {what} has to be a number, not {value!r}")
    return int(str(value))


def _authenticate(parts: SplitResult, options: dict[str, Any], settings: Settings) -> None:
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
        raise SettingsError(
            f"the credential provider has to be a redis.CredentialProvider, not a {type(value).__name__}"
        )
    return value


def _connection_class(scheme: str, options: dict[str, Any], settings: Settings) -> type[driver.AbstractConnection]:
    """Return the connection class, and add the options of TLS; certificates are verified by default."""
    if scheme in _SOCKET_SCHEMES:
        return driver.UnixDomainSocketConnection
    extra = settings.redis_backend_use_ssl
    if extra is not None and not isinstance(extra, Mapping | bool):
        raise SettingsError(
            f"setting redis_backend_use_ssl: expected a dict of ssl_* options, got {type(extra).__name__}"
        )
    if isinstance(extra, Mapping):
        for name, value in extra.items():
            options.setdefault(name if name.startswith("ssl_") else f"ssl_{name}", value)
    if not scheme.startswith("rediss") and not extra:
        if stray := [name for name in options if name.startswith("ssl_")]:
            raise SettingsError(
                f"the Redis URL: the option {stray[0]!r} is for rediss://, but this URL begins with redis://"
            )
        return driver.Connection
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = _cert_reqs(options["ssl_cert_reqs"])
    if options.get("ssl_cert_reqs") != "none":
        options.setdefault("ssl_check_hostname", True)  # redis-py's own default only since 6.0
    return driver.SSLConnection


def _cert_reqs(value: object) -> str:
    text = "none" if value is None else str(int(value)) if isinstance(value, int) else str(value).lower()
    if text not in _CERT_REQS:
        raise SettingsError(
            f"the Redis URL: the option 'ssl_cert_reqs' has to be required, optional or none (or CERT_REQUIRED, ...), "
            f"not {value!r}"
        )
    return _CERT_REQS[text]
