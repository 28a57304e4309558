"""Compressed payloads as Celery 5.7 stores them: a marker, the content type, and the compressed body.

Reading does not depend on the settings: the payload contains the name of its compression. The expanded size is limited,
because a few bytes can expand to gigabytes.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from aioresult.errors import SettingsError

MARKER: Final = b"\x00celery-compressed\x00"
_LZMA_DECOMPRESSOR: Final = partial(lzma.LZMADecompressor, memlimit=256 * 2**20)
_ZSTD_WINDOW: Final = 27
"""The largest window, as a power of two: 128 MiB."""
_EXTRA: Final = "pip install 'aioresult-backend[compression]'"


Expander = Callable[[bytes, int], tuple[bytes, bool]]
"""Returns about as many bytes of a body as the limit, and whether the body ended properly; never holds much more."""


class Method(msgspec.Struct, frozen=True):
    """A compression method: content type, names, its two functions, and what they import."""

    content_type: str
    names: tuple[str, ...]
    compress: Callable[[bytes], bytes]
    expand: Expander
    needs: str = ""


def _expanding(make: Callable[[], Any]) -> Expander:
    """Return the expander that makes a decompressor, with the standard library's methods, for each body."""

    def expand(body: bytes, limit: int) -> tuple[bytes, bool]:
        machine = make()
        return machine.decompress(body, limit), machine.eof

    return expand


def _expand_zstd(body: bytes, limit: int) -> tuple[bytes, bool]:
    if sys.version_info >= (3, 14):  # the same as kombu imports
        from compression import zstd
    else:
        from backports import zstd

    machine = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW})
    try:
        return machine.decompress(body, limit), machine.eof
    except zstd.ZstdError as exc:
        raise ValueError(str(exc)) from exc


def _compress_zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    return zstd.compress(data)


def _expand_brotli(body: bytes, limit: int) -> tuple[bytes, bool]:
    import brotli

    machine = brotli.Decompressor()
    pieces: list[bytes] = []
    size, source = 0, body
    try:
        while size < limit and not machine.is_finished() and (source or not machine.can_accept_more_data()):
            pieces.append(machine.process(source, output_buffer_limit=limit - size))
            size, source = size + len(pieces[-1]), b""
    except brotli.error as exc:
        raise ValueError(str(exc)) from exc
    return b"".join(pieces), machine.is_finished()


def _compress_brotli(data: bytes) -> bytes:
    import brotli

    compressed: bytes = brotli.compress(data)
    return compressed


_NEEDS_ZSTD: Final = (
    "a Python that was built with zstd" if sys.version_info >= (3, 14) else f"the package backports.zstd: {_EXTRA}"
)
_METHODS: Final = (
    Method(
        "application/x-gzip", ("gzip", "zlib"), zlib.compress, _expanding(zlib.decompressobj)
    ),  # kombu's "gzip" is a bare zlib stream
    Method("application/x-bz2", ("bzip2", "bzip", "bz2"), bz2.compress, _expanding(bz2.BZ2Decompressor)),
    Method("application/x-lzma", ("lzma", "xz"), lzma.compress, _expanding(_LZMA_DECOMPRESSOR)),
    Method("application/zstd", ("zstd", "zstandard"), _compress_zstd, _expand_zstd, _NEEDS_ZSTD),
    Method("application/x-brotli", ("brotli",), _compress_brotli, _expand_brotli, f"the package brotli: {_EXTRA}"),
)
_BY_NAME: Final = {name: method for method in _METHODS for name in (*method.names, method.content_type)}


def make_compressor(name: str | None) -> Callable[[bytes], bytes]:
    """Return the function that compresses a payload and marks it as such; the identity for ``None``.

    Raises:
        SettingsError: there is no such method, or its package is not installed.
    """
    if not name:
        return lambda payload: payload
    method = _BY_NAME.get(name)
    if method is None:
        known = ", ".join(method.names[0] for method in _METHODS)
        raise SettingsError(f"unknown result_compression {name!r}; known are {known}")
    try:
        method.compress(b"")
    except ImportError as exc:
        raise SettingsError(f"result_compression {name!r} needs {method.needs}") from exc
    head = MARKER + method.content_type.encode() + b"\x00"
    return lambda payload: head + method.compress(payload)


def decompress(payload: bytes, limit: int) -> bytes:
    """Return what a payload expands to, or the payload itself where it is not marked as compressed.

    Raises:
        ValueError: the method is unknown or not installed, or the body is broken or expands beyond ``limit``.
    """
    if not payload.startswith(MARKER):
        return payload
    content_type, found, body = payload[len(MARKER) :].partition(b"\x00")
    name = content_type[:60].decode("ascii", "backslashreplace")
    method = _BY_NAME.get(name) if found else None
    if method is None:
        raise ValueError(f"it is compressed by the unknown method {name!r}")
    try:
        data, ended = method.expand(body, limit + 1)
    except ImportError as exc:
        raise ValueError(f"it is compressed by {method.names[0]}, which needs {method.needs}") from exc
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as exc:
        raise ValueError(f"its {method.names[0]} data is broken ({exc!s:.100})") from exc
    if len(data) > limit:
        raise ValueError(f"it expands to more than max_decompressed_bytes={limit}")
    if not ended:
        raise ValueError(f"its {method.names[0]} data is truncated")
    return data
