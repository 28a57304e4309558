"""Just enough of MongoDB's protocol to set servers up, without a driver, whose clients each start threads."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import bson

Document = dict[str, Any]
HEADER: Final = struct.Struct("<iiii")
OP_MSG: Final = 2013
_BODY = 5
"""Bytes between a message's header and its document: flags, and the kind of section."""


class CommandRefused(Exception):
    """Raised when the server answers with an error.

    Attributes:
        code: the server's number of the error.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def call(connection: socket.socket, command: Document) -> Document:
    """Send one command on a new connection, close it, and return the reply.

    Raises:
        CommandRefused: the server answered with an error.
        OSError: it did not answer.
    """
    with connection, connection.makefile("rb") as stream:
        connection.sendall(message(0, command))
        header = stream.read(HEADER.size)
        body = stream.read(HEADER.unpack(header)[0] - HEADER.size) if len(header) == HEADER.size else b""
    if not body:
        raise ConnectionResetError("the server closed the connection instead of a reply")
    reply = document(body)
    if not reply["ok"]:
        raise CommandRefused(f"{next(iter(command))}: {reply['errmsg']}", reply["code"])
    return reply


def document(body: bytes) -> Document:
    """Return the document of a message, of which ``body`` is what follows the header."""
    size = struct.unpack_from("<i", body, _BODY)[0]
    return dict(bson.decode(body[_BODY : _BODY + size]))


def message(answers: int, document: Document) -> bytes:
    """Return a message with ``document``, in answer to the request of that number."""
    body = bytes(_BODY) + bson.encode(document)
    return HEADER.pack(HEADER.size + len(body), 0, answers, OP_MSG) + body
