"""What each driver makes of the options that people know from others: one table for each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from aioresult.stores.sqlalchemy import tls

Rule = Callable[[Any], Mapping[str, Any]]
"""Takes an option's value, and returns the driver's arguments for it; its errors say what is expected."""

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")
_SEPARATORS: Final = re.compile(r"([\s\\])")
_ESCAPED: Final = r"\\\1"
_SESSIONS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")


class Driver(NamedTuple):
    """What a driver takes.

    Attributes:
        rules: by option, what becomes of its value.
        without_meaning: options that other drivers need, and that can be left out here without any loss.
        elsewhere: options that another driver takes, whose name is in ``alternative``.
        finish: makes arguments of the driver of all that was collected.
        normalized: brings the names of options into the form that the tables have.
    """

    rules: Mapping[str, Rule]
    without_meaning: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    alternative: str = ""
    finish: Callable[[dict[str, Any]], dict[str, Any]] = dict
    normalized: Callable[[str], str] = str


# --- values -----------------------------------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("a number") from None
    if not math.isfinite(number):
        raise ValueError("a number")
    return number


def _whole(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError("a whole number")
    return int(number)


def _truth(value: Any) -> bool:
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise ValueError("true or false")
    return text in _TRUE


def _one_of(*choices: str) -> Callable[[Any], str]:
    def chosen(value: Any) -> str:
        if str(value) not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return chosen


# --- rules ------------------------------------------------------------------------------------------------------------


def _as(argument: str, convert: Callable[[Any], Any] = _same) -> Rule:
    return lambda value: {argument: None if value is None else convert(value)}


def _within(group: str, member: str, convert: Callable[[Any], Any] = str) -> Rule:
    return lambda value: {group: {member: convert(value)}}


def _each(names: str, convert: Callable[[Any], Any] = _same) -> dict[str, Rule]:
    return {name: _as(name, convert) for name in names.split()}


def _only(*values: str) -> Rule:
    """Take values that ask for nothing."""
    check = _one_of(*values)

    def nothing(value: Any) -> dict[str, Any]:
        check(value)
        return {}

    return nothing


def _libpqs_timeout(value: Any) -> dict[str, Any]:
    seconds = _number(value)
    return {"timeout": seconds if seconds > 0 else None}  # none, in libpq's terms


def _settings_of_sessions(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("a dict")
    return {"server_settings": {str(name): str(setting) for name, setting in value.items()}}


def _postgresqls_ssl(value: Any) -> dict[str, Any]:
    """Translate asyncpg's ``ssl``, which other drivers' URLs use for yes and no."""
    text = str(value).lower()
    if isinstance(value, str):
        value = "require" if text in _TRUE else "disable" if text in _FALSE else value
        return {"tls": {"sslmode": _one_of(*tls.MODES)(value)}}
    return {"ssl": value}


def _psycopgs_ssl(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError("a name of libpq's sslmode here; certificates are given by sslrootcert, sslcert and sslkey")
    return {"sslmode": _postgresqls_ssl(value)["tls"]["sslmode"]}


def _asyncpg_behind_pooler(value: Any) -> dict[str, Any]:
    return {"statement_cache_size": 0, "prepared_statement_cache_size": 0} if _truth(value) else {}


def _psycopg_behind_pooler(value: Any) -> dict[str, Any]:
    return {"prepare_threshold": None} if _truth(value) else {}


def _psycopgs_statements(value: Any) -> dict[str, Any]:
    return {} if _whole(value) else {"prepare_threshold": None}


def _threshold(value: Any) -> int | None:
    return None if value is None or str(value).lower() == "none" else _whole(value)


def _mysqls_ssl(value: Any) -> dict[str, Any]:
    """Translate ``ssl``: the dictionary of mysqlclient and PyMySQL, a context, yes or no, or a mode's name."""
    if isinstance(value, Mapping):
        collected: dict[str, Any] = {"mode": ""}
        for name, part in value.items():
            rule = _MYSQL_RULES.get(f"ssl_{name}")
            if rule is None:
                raise ValueError(f"a dict without {name!r}, which is not known here")
            collected |= rule(part)["tls"]
        return {"tls": collected}
    if isinstance(value, bool | str):
        text = str(value).lower()
        return _mode("REQUIRED" if text in _TRUE else "DISABLED" if text in _FALSE else text)
    return {"ssl": value}


def _mode(value: Any) -> dict[str, Any]:
    return {"tls": {"mode": _one_of(*tls.MYSQL_MODES)(str(value).upper())}}


def _mode_if(mode: str, *, when: bool) -> Rule:
    return lambda value: {"tls": {"mode": mode} if _truth(value) is when else {}}


# --- drivers ----------------------------------------------------------------------------------------------------------

_TLS_OF_LIBPQ: Final = (
    "sslcert sslkey sslrootcert sslcrl sslpassword sslnegotiation ssl_min_protocol_version ssl_max_protocol_version"
).split()
_PSYCOPG2S: Final = frozenset({"client_encoding", "connection_factory", "cursor_factory", "row_factory", "autocommit"})
_MORE_THAN_ASYNCPG: Final = frozenset(
    (
        "hostaddr sslcertmode sslcrldir requirepeer require_auth replication scram_client_key scram_server_key "
        "oauth_issuer oauth_client_id oauth_client_secret oauth_scope"
    ).split()
)
"""What protects more, or does another thing, and would be missed without a word."""

_ASYNCPG: Final = Driver(
    rules={
        **_each("host port server_settings loop connection_class record_class", _same),
        **_each("async_creator_fn prepared_statement_name_func", _same),
        **_each("user password database passfile service servicefile krbsrvname gsslib", str),
        **_each("timeout command_timeout", _number),
        **_each("statement_cache_size prepared_statement_cache_size", _whole),
        **_each("max_cached_statement_lifetime max_cacheable_statement_size", _whole),
        **_each("direct_tls", _truth),
        **{name: _within("tls", name) for name in _TLS_OF_LIBPQ},
        "server_settings": _settings_of_sessions,
        "sslmode": _within("tls", "sslmode", _one_of(*tls.MODES)),
        "ssl": _postgresqls_ssl,
        "target_session_attrs": _as("target_session_attrs", _one_of(*_SESSIONS)),
        "dbname": _as("database", str),
        "connect_timeout": _libpqs_timeout,
        "application_name": _within("server_settings", "application_name"),
        # The server itself takes these apart, or the proxy before it, for which they may have a meaning of their own.
        "options": _within("server_settings", "options"),
        "gssencmode": _only("disable", "prefer"),
        "pgbouncer": _asyncpg_behind_pooler,
    },
    without_meaning=_PSYCOPG2S
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

    libpqs = " ".join(option.keyword.decode() for option in pq.Conninfo.get_defaults())
    return Driver(
        rules={
            **_each(libpqs),
            **_each("context async_creator_fn"),
            "prepare_threshold": _as("prepare_threshold", _threshold),
            "sslmode": _as("sslmode", _one_of(*tls.MODES)),
            "ssl": _psycopgs_ssl,
            "target_session_attrs": _as("target_session_attrs", _one_of(*_SESSIONS)),
            "connect_timeout": _as("connect_timeout", _whole),
            "timeout": _as("connect_timeout", lambda value: max(2, math.ceil(_number(value)))),
            "database": _as("dbname", str),
            "server_settings": _settings_of_sessions,
            "statement_cache_size": _psycopgs_statements,
            "prepared_statement_cache_size": _psycopgs_statements,
            "pgbouncer": _psycopg_behind_pooler,
        },
        without_meaning=_PSYCOPG2S,
        finish=_with_settings_of_sessions,
    )


def _with_settings_of_sessions(arguments: dict[str, Any]) -> dict[str, Any]:
    """Give ``server_settings``, which is asyncpg's, to psycopg as libpq's ``options``."""
    settings = arguments.pop("server_settings", {})
    flags = [f"-c {name}={_SEPARATORS.sub(_ESCAPED, value)}" for name, value in settings.items()]
    if flags:
        arguments["options"] = " ".join([*filter(None, [arguments.get("options")]), *flags])
    return arguments


_FOUND_ROWS: Final = 2
"""The flag that SQLAlchemy relies on."""
_MYSQL_RULES: Final[dict[str, Rule]] = {
    **_each("host port sock conv auth_plugin_map password_creator query_callback async_creator_fn"),
    **_each("user password database unix_socket charset init_command sql_mode", str),
    **_each("read_default_file read_default_group program_name server_public_key", str),
    **_each("connect_timeout max_allowed_packet stmt_cache_size", _whole),
    **_each("read_timeout", _number),
    **_each("local_infile use_unicode binary_prefix echo", _truth),
    "client_flag": _as("client_flag", lambda value: _whole(value) | _FOUND_ROWS),
    "passwd": _as("password", str),
    "db": _as("database", str),
    "ssl": _mysqls_ssl,
    "ssl_mode": _mode,
    **{f"ssl_{name}": _within("tls", name) for name in ("ca", "capath", "cert", "key", "cipher")},
    "ssl_key_password": _within("tls", "key_password"),
    "ssl_check_hostname": _within("tls", "check_hostname", _truth),
    "ssl_disabled": _mode_if("DISABLED", when=True),
    "ssl_verify_cert": _mode_if("VERIFY_CA", when=True),
    "ssl_verify_identity": _mode_if("VERIFY_IDENTITY", when=True),
}


def _mysql(driver: str) -> Driver:
    return Driver(
        rules=_MYSQL_RULES,
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
            **_each("timeout", _number),
            **_each("detect_types cached_statements iter_chunk_size", _whole),
            **_each("check_same_thread uri", _truth),
            **_each("isolation_level factory autocommit async_creator_fn loop"),
        }
    ),
}


def driver_called(name: str) -> Driver:
    """Return what the driver ``name`` takes."""
    return _psycopg() if name == "psycopg" else _DRIVERS[name]
