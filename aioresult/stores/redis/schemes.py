"""Finding out whether a port uses TLS, after a connection of the other kind has failed without a reason.

A Redis that expects TLS resets a connection without it; in the opposite case it waits for more bytes.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

_PATIENCE: Final = 1.0
"""Seconds for the test, in addition to those of the failed connection."""
_REPLIES: Final = (b"+", b"-")
"""The first byte of Redis's answer to PING: ``+PONG``, or an error because it requires a password."""


async def advice(host: str, port: int, *, encrypted: bool) -> str:
    """Return what to change in the URL if TLS is wrongly on or off, else an empty text."""
    if encrypted:
        plain = await _speaks(host, port, None)
        return "; this port speaks no TLS: use redis:// in place of rediss://, without redis_backend_use_ssl" * plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is sent, so the server need not be trusted
    context.verify_mode = ssl.CERT_NONE
    return "; this port speaks TLS: use rediss:// in place of redis://" * await _speaks(host, port, context)


async def _speaks(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    """Return whether the port uses TLS or, without a context, answers like a Redis without TLS."""
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                if context is not None:
                    return True
                writer.write(b"PING\r\n")
                return await reader.read(1) in _REPLIES
            finally:
                writer.transport.abort()
    except OSError:
        return False
