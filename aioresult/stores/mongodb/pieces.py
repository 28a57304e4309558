"""Streams as documents, and back: no I/O.

Each call that appends to a stream stores one document, a piece::

    {_id: {task: <id>, first: 11}, last: 14, oldest: 1, items: [...], at: <date>, expires_at: <date>}

Its items have the numbers ``first`` to ``last``. A producer uses the number after the last piece for ``first``; the
unique ``_id`` lets only one of several producers have it. ``oldest`` is the number of the oldest item that was kept
when the piece was stored, so the same write trims the stream. Older items are deleted some time later. The ``ends`` of
streams are pieces, too: without items, and with the field ``ended``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import bson
import msgspec

from aioresult.errors import AioResultError, ResultTooLarge
from aioresult.settings import Settings
from aioresult.stores.mongodb.documents import CODEC_OPTIONS, MAX_DOCUMENT, Document, expiry
from aioresult.stores.mongodb.ranges import key
from aioresult.stream import LOOK, Append, News, stream_full

_SURELY_FITS: Final = MAX_DOCUMENT // 4
"""With so many bytes of items, a document is small enough, even if each item has only a byte or two."""


class Head(msgspec.Struct, frozen=True):
    """The state of a stream, without its items.

    Attributes:
        first: the number of the first item of the newest piece.
        last: the number of the newest item.
        oldest: the number of the oldest item that is kept.
        ends: when the newest piece expires, if it does.
        ends_first: when the first of the pieces that were read expires.
        ended: whether the newest piece is the end.
    """

    first: int
    last: int
    oldest: int
    ends: datetime | None
    ends_first: datetime | None
    ended: bool | None = None


HEADS: Final[Document] = {
    "$group": {
        "_id": "$_id.task",
        "first": {"$max": "$_id.first"},
        "last": {"$max": "$last"},
        "oldest": {"$max": "$oldest"},
        "ends": {"$max": "$expires_at"},
        "ends_first": {"$min": "$expires_at"},
        "ended": {"$max": "$ended"},
    }
}
"""The aggregation stage that makes a ``Head`` from the pieces of each stream."""
HEAD_FIELDS: Final[Document] = {"last": 1, "oldest": 1, "expires_at": 1, "ended": 1}
"""The fields that a ``Head`` is made from."""


def heads_of(pieces: Sequence[Document]) -> dict[str, Head]:
    """Return the heads of the streams of ``pieces``, which include the newest piece of each."""
    heads: dict[str, Head] = {}
    for piece in pieces:
        task_id, first, ends = piece["_id"]["task"], piece["_id"]["first"], piece.get("expires_at")
        head = heads.get(task_id)
        if head is None or head.first < first:
            ends_first = head.ends_first if head else ends
            heads[task_id] = Head(first, piece["last"], piece["oldest"], ends, ends_first, piece.get("ended"))
    return heads


def piece_of(
    append: Append, items: Sequence[bytes], head: Head | None, settings: Settings
) -> Document | AioResultError:
    """Return the piece that stores ``items`` after ``head``, or why they cannot be stored."""
    first = head.last + 1 if head is not None else 1
    last = first + len(items) - 1
    oldest = head.oldest if head is not None else 1
    limit = settings.stream_max_items
    if limit is not None and last - oldest + 1 > limit:
        if not settings.stream_trim:
            return stream_full(append.id, limit)
        oldest = last - limit + 1
    piece: Document = {
        "_id": key(append.id, first),
        "last": last,
        "oldest": oldest,
        "items": list(items),
        "at": datetime.now(UTC),
        **expiry(settings.result_expires or None),
    }
    if sum(map(len, items)) + 16 * len(items) > _SURELY_FITS:
        size = len(bson.encode(piece, codec_options=CODEC_OPTIONS))
        if size > MAX_DOCUMENT:
            return ResultTooLarge(
                f"what is to be appended at once to the stream of task {append.id!r} takes {size} bytes, more than the "
                f"{MAX_DOCUMENT} of a MongoDB document; nothing was stored; append it in several calls, or store it "
                f"elsewhere and keep a reference to it here"
            )
    return piece


def taken(pieces: Sequence[Document], start: int, limit: int) -> list[bytes]:
    """Return the items from number ``start`` on, up to the first gap; ``pieces`` are in order.

    They are whole pieces if possible, so that the next read begins with a piece; at most ``limit`` items, and none if
    ``start`` is in none of the pieces.
    """
    items: list[bytes] = []
    for piece in pieces:
        position = start + len(items)
        if piece["last"] < position:
            continue
        if piece["_id"]["first"] > position:
            break
        new = piece["items"][position - piece["_id"]["first"] :]
        if items and len(items) + len(new) > limit:
            break
        items += new
    return items[:limit]


def numbered(pieces: Sequence[Document]) -> dict[bytes, int]:
    """Return the number of each item."""
    return {item: seq for piece in pieces for seq, item in enumerate(piece["items"], piece["_id"]["first"])}


def news_of(piece: Document | None) -> News:
    """Return the news of an inserted piece; ``LOOK`` if the piece is not known."""
    return LOOK if piece is None else News(piece["_id"]["first"], piece["items"])
