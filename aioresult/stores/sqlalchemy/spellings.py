"""How each driver translates the options of other drivers: one table for each driver."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple

from aioresult.stores.sqlalchemy import tls
from aioresult.stores.sqlalchemy.rules import FALSE, TRUE, Rule, as_, each, number, one_of, only, truth, whole, within

_SEPARATORS: Final = re.compile(r"([\s\\])")
_ESCAPED: Final = r"\\\1"
_SESSIONS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")


class Driver(NamedTuple):
    """The options of a driver.

    Attributes:
        rules: the rule for each option's value.
        without_meaning: options of other drivers that can be left out here without loss.
        elsewhere: options that another driver supports, whose name is in ``alternative``.
        finish: makes the driver's arguments from everything collected; raises ``SettingsError`` if files for TLS are
            missing, or the options for TLS contradict each other.
        normalized: converts the names of options to the form in the tables.
    """

    rules: Mapping[str, Rule]
    without_meaning: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    alternative: str = ""
    finish: Callable[[dict[str, Any]], dict[str, Any]] = dict
    normalized: Callable[[str], str] = str


# --- rules ------------------------------------------------------------------------------------------------------------


def _libpqs_timeout(value: Any) -> dict[str, Any]:
    seconds = number(value)
    return {"timeout": seconds if seconds > 0 else None}  # libpq's value for no timeout


def _settings_of_sessions(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("a dict")
    return {"server_settings": {str(name): str(setting) for name, setting in value.items()}}


def _postgresqls_ssl(value: Any) -> dict[str, Any]:
    """Translate asyncpg's ``ssl``, which URLs for other drivers use as a yes or no."""
    text = str(value).lower()
    if isinstance(value, str):
        value = "require" if text in TRUE else "disable" if text in FALSE else value
        return {"tls": {"sslmode": one_of(*tls.MODES)(value)}}
    return {"ssl": value}


def _psycopgs_ssl(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError("a name of libpq's sslmode here; certificates are given by sslrootcert, sslcert and sslkey")
    return {"sslmode": _postgresqls_ssl(value)["tls"]["sslmode"]}


def _threshold(value: Any) -> int | None:
    return None if str(value).lower() == "none" else whole(value)


def _psycopgs_statements(value: Any) -> dict[str, Any]:
    return {} if whole(value) else {"prepare_threshold": None}


def _mysqls_ssl(value: Any) -> dict[str, Any]:
    """Translate ``ssl``: the dictionary of mysqlclient and PyMySQL, a context, yes or no, or a mode's name."""
    if isinstance(value, Mapping):
        if not value:
            return {}
        collected: dict[str, Any] = {"mode": ""}
        for name, part in value.items():
            rule = _MYSQL_RULES.get(f"ssl_{name}")
            if rule is None:
                raise ValueError(f"a dict without {name!r}, which is not known here")
            collected |= rule(part)["tls"]
        return {"tls": collected}
    if isinstance(value, bool | str):
        text = str(value).lower()
        return _mode("REQUIRED" if text in TRUE else "DISABLED" if text in FALSE else text)
    return {"ssl": value}


def _verify_mode(value: Any) -> dict[str, Any]:
    text = str(value).lower()
    return {"tls": {"verify_cert": text in ("required", "2") or (text not in ("optional", "none") and truth(value))}}


def _mode(value: Any) -> dict[str, Any]:
    return {"tls": {"mode": one_of(*tls.MYSQL_MODES)(str(value).upper())}}


# --- drivers ----------------------------------------------------------------------------------------------------------

_TLS_OF_LIBPQ: Final = (
    "sslcert sslkey sslrootcert sslcrl sslpassword sslnegotiation ssl_min_protocol_version ssl_max_protocol_version"
).split()
_OF_OTHERS: Final = frozenset(
    "client_encoding connection_factory cursor_factory row_factory autocommit connection_limit pool_timeout".split()
)
"""Options of psycopg2, and of Prisma, which appear in the URLs of hosting providers."""
_MORE_THAN_ASYNCPG: Final = frozenset(
    (
        "hostaddr sslcertmode sslcrldir requirepeer require_auth replication scram_client_key scram_server_key "
        "oauth_issuer oauth_client_id oauth_client_secret oauth_scope"
    ).split()
)
"""Options with an effect, such as more protection, that would otherwise be lost silently."""

_CACHES: Final = ("statement_cache_size", "prepared_statement_cache_size")
_ASYNCPG: Final = Driver(
    rules={
        **each("host port loop connection_class record_class"),
        **each("async_creator_fn prepared_statement_name_func"),
        **each("user password database passfile service servicefile krbsrvname gsslib", str),
        **each("timeout command_timeout", number),
        **each(" ".join(_CACHES), whole),
        **each("max_cached_statement_lifetime max_cacheable_statement_size", whole),
        **each("direct_tls", truth),
        **{name: within("tls", name) for name in _TLS_OF_LIBPQ},
        "server_settings": _settings_of_sessions,
        "sslmode": within("tls", "sslmode", one_of(*tls.MODES)),
        "ssl": _postgresqls_ssl,
        "target_session_attrs": as_("target_session_attrs", one_of(*_SESSIONS)),
        "dbname": as_("database", str),
        "connect_timeout": _libpqs_timeout,
        "application_name": within("server_settings", "application_name"),
        "schema": within("server_settings", "search_path"),
        # The server parses these, or a proxy before it, which may give them a meaning of its own.
        "options": within("server_settings", "options"),
        "gssencmode": only("disable", "prefer"),
        "pgbouncer": lambda value: dict.fromkeys(_CACHES, 0) if truth(value) else {},
    },
    without_meaning=_OF_OTHERS
    | frozenset(
        "channel_binding keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout "
        "fallback_application_name sslcompression sslsni gssdelegation load_balance_hosts "
        "min_protocol_version max_protocol_version sslkeylogfile prepare_threshold".split()
    ),
    elsewhere=_MORE_THAN_ASYNCPG,
    alternative="postgresql+psycopg://",
    finish=tls.for_asyncpg,
)


@cache
def _psycopg() -> Driver:
    from psycopg import pq

    libpqs = " ".join({option.keyword.decode() for option in pq.Conninfo.get_defaults()} - _OF_OTHERS)
    return Driver(
        rules={
            **each(libpqs),
            **each("context async_creator_fn"),
            "prepare_threshold": as_("prepare_threshold", _threshold),
            "sslmode": as_("sslmode", one_of(*tls.MODES)),
            "ssl": _psycopgs_ssl,
            "target_session_attrs": as_("target_session_attrs", one_of(*_SESSIONS)),
            "connect_timeout": as_("connect_timeout", whole),
            "timeout": as_("connect_timeout", lambda value: max(2, math.ceil(number(value)))),
            "database": as_("dbname", str),
            "server_settings": _settings_of_sessions,
            "schema": within("server_settings", "search_path"),
            **dict.fromkeys(_CACHES, _psycopgs_statements),
            "pgbouncer": lambda value: {"prepare_threshold": None} if truth(value) else {},
        },
        without_meaning=_OF_OTHERS,
        finish=_with_settings_of_sessions,
    )


def _with_settings_of_sessions(arguments: dict[str, Any]) -> dict[str, Any]:
    """Pass asyncpg's ``server_settings`` to psycopg as libpq's ``options``."""
    settings = arguments.pop("server_settings", {})
    flags = [f"-c {name}={_SEPARATORS.sub(_ESCAPED, value)}" for name, value in settings.items()]
    if flags:
        arguments["options"] = " ".join([*filter(None, [arguments.get("options")]), *flags])
    return arguments


_FOUND_ROWS: Final = 2
"""The flag that SQLAlchemy relies on."""
_MYSQL_RULES: Final[dict[str, Rule]] = {
    **each("host port sock conv auth_plugin_map password_creator query_callback async_creator_fn"),
    **each("user password database unix_socket init_command sql_mode", str),
    **each("read_default_file read_default_group program_name server_public_key", str),
    **each("connect_timeout max_allowed_packet stmt_cache_size", whole),
    **each("read_timeout", number),
    **each("local_infile use_unicode binary_prefix echo", truth),
    "client_flag": as_("client_flag", lambda value: whole(value) | _FOUND_ROWS),
    "passwd": as_("password", str),
    "db": as_("database", str),
    "ssl": _mysqls_ssl,
    "ssl_mode": _mode,
    "ssl_verify_mode": _verify_mode,
    "ssl_fake_flag_to_enable_tls": lambda _value: {"tls": {}},  # often written because an empty dict has no effect
    **{f"ssl_{name}": within("tls", name) for name in ("ca", "capath", "cert", "key", "cipher")},
    "ssl_key_password": within("tls", "key_password"),
    **{
        f"ssl_{name}": within("tls", name, truth)
        for name in ("check_hostname", "disabled", "verify_cert", "verify_identity")
    },
}


_CHARSETS: Final = {"asyncmy": "asyncmy.charset", "aiomysql": "pymysql.charset"}
"""The modules with the drivers' character sets; with others the drivers fail with obscure errors."""


def _charset(driver: str, value: Any) -> str:
    """Return the name of a character set in ``driver``."""
    name = "utf8" if value == "utf8mb3" else str(value)  # the newer name, which the drivers do not know
    if import_module(_CHARSETS[driver]).charset_by_name(name) is None:
        raise ValueError(f"a character set that {driver} knows, such as utf8mb4")
    return name


def _mysql(driver: str) -> Driver:
    return Driver(
        rules={**_MYSQL_RULES, "charset": as_("charset", partial(_charset, driver))},
        without_meaning=frozenset(
            "write_timeout compress cursorclass cursor_cls autocommit defer_connect no_delay named_pipe".split()
        ),
        finish=lambda arguments: tls.for_mysql(arguments, driver),
        normalized=lambda name: name.replace("-", "_"),
    )


_DRIVERS: Final = {
    "asyncpg": _ASYNCPG,
    "asyncmy": _mysql("asyncmy"),
    "aiomysql": _mysql("aiomysql"),
    "aiosqlite": Driver(
        rules={
            **each("timeout", number),
            **each("detect_types cached_statements iter_chunk_size", whole),
            **each("check_same_thread uri", truth),
            **each("isolation_level factory autocommit async_creator_fn loop"),
        }
    ),
}


def driver_called(name: str) -> Driver:
    """Return the options of the driver ``name``."""
    return _psycopg() if name == "psycopg" else _DRIVERS[name]
