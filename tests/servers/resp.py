"""Just enough of Redis's protocol to set servers up and to look into them, without the driver under test."""

from __future__ import annotations

import socket
from typing import Protocol

Reply = str | int | None | list["Reply"]


class Stream(Protocol):
    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...
    def readline(self) -> bytes: ...
    def read(self, size: int, /) -> bytes: ...


class RedisReplyError(Exception):
    """Raised for an error reply; its text is the server's."""


def call(address: tuple[str, int], *command: str | int, password: str | None = None) -> Reply:
    """Send one command on a connection of its own and return the reply.

    Raises:
        RedisReplyError: the server answered with an error.
        OSError: it did not answer.
    """
    with socket.create_connection(address, timeout=5) as sock, sock.makefile("rwb") as stream:
        if password is not None:
            _exchange(stream, "AUTH", password)
        return _exchange(stream, *command)


def _exchange(stream: Stream, *command: str | int) -> Reply:
    parts = [str(part).encode() for part in command]
    stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    stream.flush()
    return _read(stream)


def _read(stream: Stream) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection within a reply")
    kind, text = line[:1], line[1:-2].decode()
    match kind:
        case b"+":
            return text
        case b"-":
            raise RedisReplyError(text)
        case b":":
            return int(text)
        case b"$":
            return None if text == "-1" else stream.read(int(text) + 2)[:-2].decode(errors="replace")
        case b"*":
            return None if text == "-1" else [_read(stream) for _ in range(int(text))]
    raise ConnectionError(f"not a reply of Redis: {line!r}")
