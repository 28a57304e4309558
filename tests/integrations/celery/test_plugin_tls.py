"""Chords on a Redis that speaks TLS and is found through sentinels."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord

from tests.integrations.celery.conftest import broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisSentinels, RedisServer, TcpProxy

WAIT = 20.0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *extra], check=True, capture_output=True)
    return key, certificate


@pytest.fixture
def sentinels() -> Iterator[RedisSentinels]:
    with RedisSentinels(replicas=0, sentinels=1, password="secret") as servers:
        yield servers


def chord_of(settings: dict[str, Any]) -> tuple[int, str]:
    """Return the result of a chord, and the log of the worker that has run it."""
    with Worker(pool="prefork", concurrency=2, **settings) as worker, application(**settings) as app:
        add, total = app.tasks["tests.add"], app.tasks["tests.total"]
        return chord([add.s(i, i) for i in range(5)])(total.s()).get(timeout=WAIT), worker.log


@pytest.mark.parametrize("way", ["scheme", "setting"])
async def test_chords_behind_sentinels_are_counted_by_tls(
    way: str, sentinels: RedisSentinels, certificate: tuple[Path, Path], celery_redis: RedisServer, keyprefix: str
) -> None:
    """The sentinels name a port that speaks nothing but TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate[1], certificate[0])
    async with TcpProxy(sentinels.servers[0].url, tls_context=context) as proxy:
        sentinel = sentinels.sentinels[0]
        sentinel.call("SENTINEL", "MONITOR", "encrypted", "127.0.0.1", proxy.port, 1)
        # It cannot speak TLS, and is not to take the primary for dead because of that.
        sentinel.call("SENTINEL", "SET", "encrypted", "down-after-milliseconds", 3_600_000)
        place = f"127.0.0.1:{sentinel.port}/encrypted/0"
        ways: dict[str, dict[str, Any]] = {
            "scheme": {"backend": f"aioresult+rediss+sentinel://:secret@{place}?ssl_ca_certs={certificate[1]}"},
            "setting": {
                "backend": f"aioresult+redis+sentinel://:secret@{place}",
                "redis_backend_use_ssl": {"ssl_cert_reqs": "required", "ssl_ca_certs": str(certificate[1])},
            },
        }
        value, log = await asyncio.to_thread(chord_of, {**broker_settings(celery_redis, keyprefix), **ways[way]})
    assert value == 20
    assert "chord_unlock" not in log, "Redis counts"
    assert "secret" not in log
