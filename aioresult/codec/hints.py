"""Error texts for payloads that cannot be read: why, which format, which setting helps; never the content."""

from __future__ import annotations

from aioresult.codec.compression import MARKER
from aioresult.codec.messages import PLAIN_STR
from aioresult.codec.pickles import looks_like_pickle


def reason(exc: Exception) -> str:
    """Return why decoding failed, in words that do not quote the payload at length."""
    if isinstance(exc, RecursionError):
        return "it is nested too deeply"
    if isinstance(exc, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {exc.start})"
    if hasattr(exc, "problem_mark"):  # an error of PyYAML, whose text quotes the payload
        return f"it is not YAML: {getattr(exc, 'problem', None)!s:.100}"
    return text_of(exc) or type(exc).__name__


def text_of(exc: Exception) -> str:
    """Return an exception's message, if it is plain text: the ``repr`` of others may raise, or reveal too much."""
    plain = all(type(arg) in (str, int) for arg in exc.args)
    return f"{exc!s:.400}" if plain and type(exc).__str__ in PLAIN_STR else ""


def hint(head: bytes, serializer: str) -> str:
    """Return a hint for a reader with ``serializer``, by the first bytes of the payload."""
    seen = _looks_like(head)
    if head.startswith(MARKER) or seen in (None, serializer):
        return f" (expected is {serializer}, by result_serializer)"
    trust = " and accept_content=['pickle'], if every writer is trusted" if seen == "pickle" else ""
    return f"; it looks like {seen}, but result_serializer is {serializer!r}: set result_serializer={seen!r}{trust}"


def _looks_like(head: bytes) -> str | None:
    if looks_like_pickle(head):
        return "pickle"
    if head[:1] in (b"{", b"[", b'"'):
        return "json"
    if head[:1] and (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return "msgpack"
    if head.startswith((b"children:", b"date_done:", b"status:", b"exc_message:")):
        return "yaml"
    return None
