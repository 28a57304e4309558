"""Connections with TLS: converting the options of a URL and the settings to those of asyncpg and MySQL's drivers."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from aioresult.errors import SettingsError, StoreUnavailable
from aioresult.stores.certificates import advice_on_certificate

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's ``sslmode``."""
MYSQL_MODES: Final = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
"""``ssl_mode`` of MySQL's own clients."""

_NO_TLS: Final = "wrong_version_number"
"""OpenSSL's reason for an answer that is not TLS."""
_ADVICE: Final = {
    "it speaks no TLS: say sslmode=disable in the URL": ("rejected ssl upgrade", "does not support ssl"),
    "it speaks no TLS: say ssl_mode=DISABLED in the URL": (_NO_TLS,),
    "it may want TLS: say sslmode=require in the URL": ("no encryption", "ssl off", "ssl required"),
    "name the authority in the URL: sslrootcert=/path/to/ca.pem, or sslrootcert=system with sslmode=verify-full": (
        "root certificate file",
    ),
    "it may want TLS: say ssl_mode=REQUIRED in the URL": ("insecure transport",),
}
"""Advice, by the lower-case texts of drivers and servers."""
UNENCRYPTED: Final = (
    "the connection has no TLS: if the server or the account requires it, say ssl_mode=REQUIRED in the URL"
)
"""The note on errors of connecting to a MySQL server without TLS; a refused login is not explained by the server."""


def for_asyncpg(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` with libpq's options for TLS converted to asyncpg's.

    asyncpg supports libpq's options only in a URL that it parses itself, and other arguments win over those.
    """
    given = {name: value for name, value in arguments.pop("tls", {}).items() if value}
    if given.get("sslrootcert") == "system":
        return {"ssl": _trusting_the_system(given), **arguments}
    _check_files(given, ("sslrootcert", "sslcert", "sslkey", "sslcrl"))
    return {**arguments, "dsn": f"postgresql://?{urlencode(given)}"} if given else arguments


def _trusting_the_system(given: Mapping[str, str]) -> ssl.SSLContext:
    if given.get("sslmode", "verify-full") != "verify-full":
        raise SettingsError(
            "sslrootcert=system needs sslmode=verify-full: anybody can have a certificate for some name"
        )
    _check_files(given, ("sslcert", "sslkey"))
    context = ssl.create_default_context()
    if "sslcert" in given:
        _present(context, given["sslcert"], given.get("sslkey"), given.get("sslpassword"))
    return context


def for_mysql(arguments: dict[str, Any], driver: str) -> dict[str, Any]:
    """Return ``arguments`` with the TLS options of MySQL's clients replaced by a context.

    As with these clients, the certificate is verified if an authority is named. If TLS is required, a server without
    TLS is refused, because the drivers would continue without encryption.
    """
    given = arguments.pop("tls", None)
    mode = "DISABLED" if given is None else given.get("mode") or _mode_of(given)
    if given is None or mode == "DISABLED":
        in_the_clear = arguments.get("ssl") is None
        return {"async_creator_fn": partial(connect_mysql, driver, preferred=in_the_clear), **arguments}
    _check_files(given, ("ca", "capath", "cert", "key"), "ssl_")
    try:
        context = ssl.create_default_context(cafile=given.get("ca"), capath=given.get("capath"))
    except ssl.SSLError as exc:
        raise SettingsError(f"the option ssl_ca names a file in which there are no certificates: {exc}") from exc
    context.check_hostname = mode == "VERIFY_IDENTITY" and given.get("check_hostname", True)
    if not mode.startswith("VERIFY"):
        context.verify_mode = ssl.CERT_NONE
    if "cert" in given:
        _present(context, given["cert"], given.get("key"), given.get("key_password"))
    if "cipher" in given:
        context.set_ciphers(given["cipher"])
    arguments.setdefault("async_creator_fn", partial(connect_mysql, driver, preferred=mode == "PREFERRED"))
    return {"ssl": context, **arguments}


def _mode_of(given: Mapping[str, Any]) -> str:
    named = "ca" in given or "capath" in given
    if given.get("disabled"):
        return "DISABLED"
    if given.get("verify_identity", named and "verify_cert" not in given):
        return "VERIFY_IDENTITY"
    return "VERIFY_CA" if given.get("verify_cert", named) else "REQUIRED"


async def connect_mysql(driver: str, *, preferred: bool, **options: Any) -> Any:
    """Connect to a MySQL server with TLS or, if TLS is only ``preferred``, also to one without.

    With a server without TLS, asyncmy raises an error, and aiomysql connects without encryption. If ``options`` contain
    no TLS, the note of an error says so.
    """
    connect = importlib.import_module(driver).connect
    try:
        connection = await connect(**options)
    except Exception as exc:
        if preferred and _NO_TLS in str(exc).lower():
            return await connect(**{**options, "ssl": None})
        if options.get("ssl") is None:
            exc.add_note(UNENCRYPTED)
        raise
    if not preferred:
        async with connection.cursor() as cursor:
            await cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            found = await cursor.fetchone()
        if not (found and found[1]):
            connection.close()
            raise StoreUnavailable(f"the connection to {options.get('host')} is not encrypted{advice_on_tls(_NO_TLS)}")
    return connection


def _check_files(given: Mapping[str, Any], names: tuple[str, ...], prefix: str = "") -> None:
    """Raise an error that names a missing file, because OpenSSL's does not."""
    for name in names:
        if name in given and not Path(given[name]).exists():
            raise SettingsError(f"the option {prefix}{name} names {given[name]!r}, which does not exist")


def _present(context: ssl.SSLContext, cert: str, key: str | None, password: str | None) -> None:
    try:
        context.load_cert_chain(cert, key, password or "")
    except ssl.SSLError as exc:
        raise SettingsError(f"the client's certificate {cert!r} and its key cannot be used: {exc}") from exc


def advice_on_tls(words: str) -> str:
    """Return what to change in the URL if a driver's ``words`` are about TLS on only one side, or about trust."""
    lower = words.lower()
    if "to database" in lower:
        return ""  # MySQL has admitted the account, but not to this database
    for advice, signs in _ADVICE.items():
        if any(sign in lower for sign in signs):
            return f"; {advice}"
    return advice_on_certificate(words.rstrip(")"), "ssl_ca" if "MySQL server" in words else "sslrootcert")
