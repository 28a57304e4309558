"""Whether a port speaks TLS, for those who reached it in the other way and were told nothing.

Redis resets a connection that begins without TLS where it expects it, and waits for more in the opposite case.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

_PATIENCE: Final = 1.0
"""Seconds for finding out, on top of those that connecting took in vain."""
_REPLIES: Final = (b"+", b"-")
"""With which a Redis begins its answer to PING: PONG, or that it wants a password first."""


async def advice(host: str, port: int, *, encrypted: bool) -> str:
    """Return what to change in the URL where the port speaks the other way, and nothing where that is not it."""
    if encrypted:
        plain = await _speaks(host, port, None)
        return "; this port speaks no TLS: use redis:// in place of rediss://, without redis_backend_use_ssl" * plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is sent, hence nobody needs to be trusted
    context.verify_mode = ssl.CERT_NONE
    return "; this port speaks TLS: use rediss:// in place of redis://" * await _speaks(host, port, context)


async def _speaks(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    """Return whether the port does TLS or, without a context, answers as a Redis does that wants none."""
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
