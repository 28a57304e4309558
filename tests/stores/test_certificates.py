"""A certificate that is not trusted, and a file of certificates that is missing: the errors name the option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from aioresult import AioResultError, Backend, SettingsError, StoreUnavailable
from tests.servers.process import HOST
from tests.servers.tls import TlsMariaDBServer, TlsMongoServer, TlsPostgresServer, TlsRedisServer

VERIFYING: Final = {
    "redis": ("", "ssl_ca_certs"),
    "rediscluster": ("", "ssl_ca_certs"),
    "asyncpg": ("sslmode=verify-full", "sslrootcert"),
    "psycopg": ("sslmode=verify-full", "sslrootcert"),
    "mariadb": ("ssl_mode=VERIFY_IDENTITY", "ssl_ca"),
    "mongodb": ("tls=true", "tlsCAFile"),
}
"""For each store what a URL says to have the certificate verified, and the option that names the authority."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def known(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the servers' authority."""
    path = tmp_path_factory.mktemp("known") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def places(authority: trustme.CA) -> Iterator[dict[str, str]]:
    """URLs of servers that speak TLS."""
    with ExitStack() as stack:
        redis = stack.enter_context(TlsRedisServer(authority))
        postgresql = stack.enter_context(TlsPostgresServer(authority))
        mariadb = stack.enter_context(TlsMariaDBServer(authority))
        mongodb = stack.enter_context(TlsMongoServer(authority))
        yield {
            "redis": f"rediss://localhost:{redis.tls_port}/0",
            "rediscluster": f"rediss+cluster://localhost:{redis.tls_port}",
            "asyncpg": postgresql.url_of("test").replace(HOST, "localhost"),
            "psycopg": postgresql.url_of("test", "+psycopg").replace(HOST, "localhost"),
            "mariadb": mariadb.url.replace(HOST, "localhost"),
            "mongodb": mongodb.url.replace(HOST, "localhost"),
        }


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that has issued none of the servers'."""
    path = tmp_path_factory.mktemp("stranger") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


async def error_of(url: str, **settings: Any) -> AioResultError:
    """Return what is raised where a store is first asked."""
    with pytest.raises(AioResultError) as caught:
        async with Backend(url, connect_timeout=2, **settings) as backend:
            await backend.ping()
    return caught.value


@pytest.mark.parametrize("store", VERIFYING)
async def test_a_certificate_that_is_not_trusted_names_the_option_for_its_authority(
    places: dict[str, str], stranger: Path, store: str
) -> None:
    query, option = VERIFYING[store]
    error = await error_of(f"{places[store]}?{query}&{option}={stranger}".replace("?&", "?"))
    assert isinstance(error, StoreUnavailable)
    assert f"{option}=" in str(error)


@pytest.mark.parametrize("store", VERIFYING)
async def test_a_file_of_certificates_that_is_missing_is_named_with_its_option(
    places: dict[str, str], store: str
) -> None:
    query, option = VERIFYING[store]
    error = await error_of(f"{places[store]}?{query}&{option}=/nowhere/ca.pem".replace("?&", "?"))
    assert isinstance(error, StoreUnavailable if store == "psycopg" else SettingsError), "libpq looks by itself"
    assert option.lower() in str(error).lower()
    assert "/nowhere/ca.pem" in str(error) or store == "mongodb", "some versions of PyMongo name the option alone"


@pytest.mark.parametrize("option", ["ssl_certfile", "ssl_keyfile"])
async def test_so_are_the_other_files_of_redis(places: dict[str, str], option: str) -> None:
    error = await error_of(places["redis"], redis_backend_use_ssl={option: "/nowhere/some.pem"})
    assert isinstance(error, SettingsError)
    assert f"{option} names '/nowhere/some.pem', which does not exist" in str(error)


@pytest.mark.parametrize("store", ["redis", "asyncpg", "mariadb", "mongodb"])
async def test_a_certificate_for_another_name_asks_for_that_name(
    places: dict[str, str], known: Path, store: str
) -> None:
    query, option = VERIFYING[store]
    other = places[store].replace("localhost", "127.1")  # the same host, by a name that no certificate has
    error = await error_of(f"{other}?{query}&{option}={known}".replace("?&", "?"))
    assert "the URL has to name the host as the certificate does" in str(error)
