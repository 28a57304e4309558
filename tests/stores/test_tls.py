"""TLS as URLs and settings ask for it, with real servers; and what is said where only one side speaks it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.engine import make_url

from aioresult import Backend, StoreUnavailable
from aioresult.stores.sqlalchemy.tls import connect_mysql
from tests.servers import MariaDBServer, MongoServer, PostgresServer, RedisServer
from tests.servers.mariadb import execute
from tests.servers.tls import CLERK, TlsMariaDBServer, TlsMongoServer, TlsPostgresServer, TlsRedisServer
from tests.stores.sqlalchemy.sql import sql_store

DRIVERS = ["asyncpg", "psycopg"]
PLAIN, HANDSHAKE = b"*", b"\x16"
"""The first byte of a Redis client, without TLS and with it."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that has issued none of the servers'."""
    path = tmp_path_factory.mktemp("stranger") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def clerk(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate and the key of a client."""
    folder = tmp_path_factory.mktemp("clerk")
    issued = authority.issue_cert(common_name=CLERK)
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem", folder / "key.pem"


async def refusal(url: str, **settings: Any) -> str:
    """Return what a store says that cannot be reached."""
    async with Backend(url, connect_timeout=1, **settings) as backend:
        with pytest.raises(StoreUnavailable) as caught:
            await backend.ping()
    return str(caught.value)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgresql(authority: trustme.CA) -> Iterator[TlsPostgresServer]:
    with TlsPostgresServer(authority) as server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE {CLERK} LOGIN".encode())
        yield server


async def encrypted(url: str, **settings: Any) -> tuple[bool, str]:
    """Return whether a session is encrypted, and the subject of the client's certificate."""

    async def look(link: Any, _dialect: object) -> Any:
        (row,) = await link.rows("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return row

    async with Backend(url, database_create_tables_at_setup=False, **settings) as backend:
        store = sql_store(backend)
        await store.database.create()
        found = await store.database.run(look)
    return found[0], found[1] or ""


@pytest.mark.parametrize("driver", DRIVERS)
async def test_postgresql_s_certificate_is_verified_as_the_url_says(
    postgresql: TlsPostgresServer, stranger: Path, driver: str
) -> None:
    url = postgresql.url_of("test", f"+{driver}")
    named = url.replace("127.0.0.1", "localhost")
    known = f"sslrootcert={postgresql.folder / 'ca.pem'}"
    for query in ("sslmode=require", "ssl=true", f"sslmode=verify-ca&{known}", f"sslmode=verify-full&{known}"):
        assert (await encrypted(f"{named}?{query}"))[0], query
    for query in (f"sslmode=verify-full&sslrootcert={stranger}", "sslrootcert=system"):
        assert "certificate" in (await refusal(f"{named}?{query}")).lower(), query


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_system_s_authorities_are_those_of_openssl(
    postgresql: TlsPostgresServer, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    url = postgresql.url_of("test", f"+{driver}")
    monkeypatch.setenv("SSL_CERT_FILE", str(postgresql.folder / "ca.pem"))
    assert (await encrypted(f"{url.replace('127.0.0.1', 'localhost')}?sslrootcert=system"))[0]


async def test_a_certificate_that_was_revoked_is_refused_by_asyncpg_too(
    postgresql: TlsPostgresServer, authority: trustme.CA, tmp_path: Path
) -> None:
    url = f"{postgresql.url}?sslmode=verify-ca&sslrootcert={postgresql.folder / 'ca.pem'}"
    for revoked in (False, True):
        path = tmp_path / f"{revoked}.crl"
        path.write_bytes(revocations(authority, postgresql.folder / "cert.pem" if revoked else None))
        if revoked:
            assert "revoked" in await refusal(f"{url}&sslcrl={path}")
        else:
            assert (await encrypted(f"{url}&sslcrl={path}"))[0]


def revocations(authority: trustme.CA, certificate: Path | None) -> bytes:
    """Return the authority's list of revoked certificates, with one on it or none."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    listed = x509.CertificateRevocationListBuilder(issuer.subject, now - timedelta(hours=1), now + timedelta(hours=1))
    if certificate is not None:
        number = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder(number, now - timedelta(hours=1)).build()
        listed = listed.add_revoked_certificate(entry)
    return listed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_client_s_certificate_signs_in(
    postgresql: TlsPostgresServer, clerk: tuple[Path, Path], driver: str
) -> None:
    with postgresql.connect() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute(f"CREATE SCHEMA public AUTHORIZATION {CLERK}".encode())
    url = postgresql.url_of("test", f"+{driver}").replace("postgres@", f"{CLERK}@")
    files = {"sslcert": str(clerk[0]), "sslkey": str(clerk[1]), "sslrootcert": str(postgresql.folder / "ca.pem")}
    connect_args = {"sslmode": "verify-ca", **files}
    assert CLERK in (await encrypted(url, database_engine_options={"connect_args": connect_args}))[1]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_postgresql_with_tls_on_one_side_says_what_to_write(
    postgresql: TlsPostgresServer, postgres_server: PostgresServer, driver: str
) -> None:
    wants = postgresql.url_of("test", f"+{driver}")
    assert "it may want TLS: say sslmode=require" in await refusal(f"{wants}?sslmode=disable")
    lacks = postgres_server.url.replace("asyncpg", driver)
    assert "it speaks no TLS: say sslmode=disable" in await refusal(f"{lacks}?sslmode=require")


# --- MariaDB ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mariadb(authority: trustme.CA) -> Iterator[TlsMariaDBServer]:
    with TlsMariaDBServer(authority) as server:
        yield server


NO_TLS = "the connection has no TLS: if the server or the account requires it, say ssl_mode=REQUIRED"


async def test_mariadb_s_certificate_is_verified_as_the_url_says(mariadb: TlsMariaDBServer, stranger: Path) -> None:
    named = mariadb.url.replace("127.0.0.1", "localhost")
    known = f"ssl_ca={mariadb.folder / 'ca.pem'}"
    accepted = ("ssl=true", "ssl_mode=REQUIRED", "ssl-mode=required", "ssl_mode=PREFERRED", known)
    by_address = (f"{known}&ssl_verify_cert=true", f"{known}&ssl_check_hostname=false", f"{known}&ssl_mode=VERIFY_CA")
    for query in (*accepted, *by_address, f"{known}&ssl_verify_identity=true&ssl_verify_cert=true"):
        async with Backend(f"{named}?{query}") as backend:
            await backend.ping()
    unknown = (f"ssl_ca={stranger}", f"ssl_mode=VERIFY_CA&ssl_ca={stranger}", f"ssl_ca={stranger}&ssl_verify_cert=true")
    for query in (*unknown, "ssl_mode=VERIFY_IDENTITY"):
        assert "CERTIFICATE_VERIFY_FAILED" in await refusal(f"{named}?{query}"), query


@pytest.mark.parametrize("known", [True, False])
async def test_connect_args_of_mysqlclient_mean_the_same_as_the_url(
    mariadb: TlsMariaDBServer, stranger: Path, known: bool
) -> None:
    authority = str(mariadb.folder / "ca.pem" if known else stranger)
    for tls in ({"ca": authority}, {"ca": authority, "verify_mode": "required"}):
        options = {"connect_args": {"ssl": tls, "write_timeout": 5, "compress": True}}
        if known:
            async with Backend(mariadb.url, database_engine_options=options) as backend:
                await backend.ping()
        else:
            assert "CERTIFICATE_VERIFY_FAILED" in await refusal(mariadb.url, database_engine_options=options)


async def test_a_flag_that_means_nothing_asks_for_tls_as_with_pymysql(mariadb: TlsMariaDBServer) -> None:
    options = {"connect_args": {"ssl": {"fake_flag_to_enable_tls": True}}}
    async with Backend(mariadb.url, database_engine_options=options) as backend:
        await backend.ping()


async def test_mariadb_with_tls_on_one_side_says_what_to_write(
    mariadb: TlsMariaDBServer, mariadb_server: MariaDBServer
) -> None:
    for query in ("", "?ssl_mode=DISABLED"):
        assert NO_TLS in await refusal(f"{mariadb.url}{query}"), query
    with MariaDBServer(skip_ssl=1) as plain:
        assert "it speaks no TLS: say ssl_mode=DISABLED" in await refusal(f"{plain.url}?ssl_mode=REQUIRED")
        async with Backend(f"{plain.url}?ssl_mode=PREFERRED") as backend:
            await backend.ping()


async def test_a_wrong_password_is_named_first_and_tls_only_where_there_is_none(
    mariadb: TlsMariaDBServer, mariadb_server: MariaDBServer
) -> None:
    password = "check user and password"
    encrypted, plain = (server.url.replace(":aioresult@", ":wr0ng@") for server in (mariadb, mariadb_server))
    for query in ("?ssl_mode=REQUIRED", "?ssl_mode=PREFERRED", f"?ssl_ca={mariadb.folder / 'ca.pem'}"):
        said = await refusal(encrypted + query)
        assert said.endswith(f"(using password: YES); {password}"), query
    for query in ("", "?ssl_mode=DISABLED", "?ssl=false"):
        said = await refusal(plain + query)
        assert said.endswith(f"(using password: YES); {password}; {NO_TLS} in the URL"), query


async def test_an_account_that_requires_tls_is_told_as_one(mariadb_server: MariaDBServer) -> None:
    account = "CREATE OR REPLACE USER secure@'%' IDENTIFIED BY 'pw' REQUIRE SSL"
    await asyncio.to_thread(execute, mariadb_server.url, account)
    url = mariadb_server.url.replace("aioresult:aioresult@", "secure:pw@")
    assert NO_TLS in await refusal(url)


async def test_a_context_of_the_caller_s_is_not_left_out_where_the_server_has_no_tls(
    mariadb_server: MariaDBServer,
) -> None:
    options = {"connect_args": {"ssl": ssl.create_default_context()}}
    said = await refusal(mariadb_server.url, database_engine_options=options)
    assert "it speaks no TLS" in said


async def test_a_driver_that_goes_on_in_the_clear_is_stopped(mariadb_server: MariaDBServer) -> None:
    place = make_url(mariadb_server.url)
    plain = {"host": place.host, "port": place.port, "user": place.username, "password": place.password, "ssl": None}
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1 is not encrypted.*ssl_mode=DISABLED"):
        await connect_mysql("asyncmy", preferred=False, **plain)


# --- Redis and MongoDB ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(authority: trustme.CA) -> Iterator[TlsRedisServer]:
    with TlsRedisServer(authority) as server:
        yield server


@pytest.mark.parametrize("kind", ["", "+cluster"])
async def test_redis_with_tls_on_one_side_names_the_other_scheme(redis: TlsRedisServer, kind: str) -> None:
    plain, secure = f"127.0.0.1:{redis.port}", f"127.0.0.1:{redis.tls_port}"
    assert "this port speaks TLS: use rediss://" in await refusal(f"redis{kind}://{secure}")
    told = await refusal(f"rediss{kind}://{plain}?ssl_cert_reqs=none")
    assert "this port speaks no TLS: use redis://" in told
    for url in (f"redis{kind}://127.0.0.1:1", f"rediss{kind}://127.0.0.1:1", f"rediss{kind}://{secure}"):
        assert "this port" not in await refusal(url), "it is closed, or does speak TLS"


async def test_valkeys_is_spoken_with_a_certificate(redis: TlsRedisServer) -> None:
    url = f"valkeys://localhost:{redis.tls_port}?ssl_ca_certs={redis.folder / 'ca.pem'}"
    async with Backend(url) as backend:
        assert await backend.store_result("a", 1, "SUCCESS")


async def test_a_port_is_tried_by_tls_only_if_nothing_was_ever_reached_there() -> None:
    """Later a connection may be refused for any other reason, and that is to be told at once."""
    begun: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(await reader.read(1))
        writer.transport.abort()

    with RedisServer() as server:
        async with Backend(server.url) as reached, Backend(server.url) as fresh:
            await reached.ping()
            server.stop()
            async with await asyncio.start_server(hang_up, "127.0.0.1", server.port):
                with pytest.raises(StoreUnavailable):
                    await reached.ping()
                assert set(begun) == {PLAIN}
                with pytest.raises(StoreUnavailable):
                    await fresh.ping()
                assert set(begun) == {PLAIN, HANDSHAKE}


@pytest.fixture(scope="module")
def mongodb(authority: trustme.CA) -> Iterator[TlsMongoServer]:
    with TlsMongoServer(authority) as server:
        yield server


async def test_mongodb_with_tls_on_one_side_says_what_to_write(
    mongodb: TlsMongoServer, mongo_server: MongoServer
) -> None:
    options = "&".join(f"{name}={value}" for name, value in mongodb.tls_options.items()).replace("True", "true")
    async with Backend(f"{mongodb.url}?{options}") as backend:
        await backend.ping()
    assert "add tls=true" in await refusal(mongodb.url)
    assert "say tls=false" in await refusal(f"{mongo_server.url}?tls=true&tlsInsecure=true")
