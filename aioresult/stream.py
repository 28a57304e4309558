"""A task's stream: numbered items that it reports before its end; and the values that stores and feeds exchange."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from aioresult.errors import DecodeError, StreamEnded, StreamFull, StreamGap


class Item(msgspec.Struct, frozen=True):
    """One item of a task's stream.

    Attributes:
        seq: its number: 1, 2, 3, ... without gaps, given by the store.
        value: what was appended.
        at: when it was appended, by the producer's clock, in UTC.
        attempt: how often the task had been retried before: when it grows, a reader may clear its display.
    """

    seq: int
    value: Any
    at: datetime
    attempt: int = 0


class Append(msgspec.Struct):
    """Items to append to one stream, in their order.

    Attributes:
        id: the task's id.
        items: the items as ``Codec.encode_item`` made them; at least one. No two items of a process are equal, because
            each is a microsecond later than the one before it.
        repeated: whether this append was tried before. Items that were stored then are not stored again.
    """

    id: str
    items: Sequence[bytes]
    repeated: bool = False


class Cursor(msgspec.Struct, frozen=True):
    """A position in a stream, from which to read.

    Attributes:
        id: the task's id.
        after: the number of the last item that is known already; 0 for none.
        limit: the most items to read; 0 reads only the numbers.
        final: whether the task is known to be final: after this read, nothing can be appended any more.
    """

    id: str
    after: int
    limit: int
    final: bool = False


class Chunk(msgspec.Struct, frozen=True):
    """What a store found after a cursor.

    Attributes:
        oldest: the number of the oldest item that is kept: 1, unless the stream was trimmed or deleted.
        last: the number of the newest item, 0 where nothing is stored.
        items: the items from ``max(after + 1, oldest)`` on, as they are stored: those read together, up to the cursor's
            limit.
    """

    oldest: int
    last: int
    items: Sequence[bytes] = ()


class Page(msgspec.Struct, frozen=True):
    """A chunk for readers.

    Attributes:
        oldest, last: as in the chunk.
        items: the items, decoded; in place of one that cannot be read, the reason.
        size: how many bytes they have in the store.
    """

    oldest: int
    last: int
    items: Sequence[Item | DecodeError]
    size: int = 0


class News(msgspec.Struct, frozen=True):
    """What a feed announces about a stream: new items, or only that there may be some.

    Attributes:
        first: the number of the first of ``items``; 0 means that the receiver must read the stream.
        items: the new items as they are stored.
        gapless: whether nothing can have happened unseen before; otherwise the stream may have been begun again.
    """

    first: int = 0
    items: Sequence[bytes] = ()
    gapless: bool = True


LOOK: Final = News()
"""There may be new items, or none; the reader must read the stream."""
CHANGED: Final = News(gapless=False)
"""The same, from a feed that looks now and then and does not see what happens in between."""
REPEATED_AMONG: Final = 10_000
"""How many of the newest items are searched for items that a repeated append has stored already."""
EMPTY: Final = Chunk(1, 0)
"""A stream to which nothing was appended."""


_last_moment = 0.0


def now() -> float:
    """Return the time in seconds, at least a microsecond later than the last one, so that no two items are equal."""
    global _last_moment  # noqa: PLW0603  (the clock of this process)
    _last_moment = max(time.time(), _last_moment + 1e-6)
    return _last_moment


def stream_ended(task_id: str) -> StreamEnded:
    """Return the error for items of a task that is final."""
    return StreamEnded(
        f"task {task_id!r} is final, so that nothing can be appended to its stream any more; nothing was stored"
    )


def stream_full(task_id: str, limit: int | None) -> StreamFull:
    """Return the error for items that would make a stream too long."""
    return StreamFull(
        f"the stream of task {task_id!r} would hold more than stream_max_items={limit}; nothing was stored; raise "
        f"stream_max_items, or delete the oldest items by stream_trim=True"
    )


def items_behind(task_id: str, after: int, page: Page) -> Sequence[Item | DecodeError]:
    """Return the items of ``page``, which was read after the number ``after``.

    Raises:
        StreamGap: the next item is not there any more.
    """
    if page.oldest <= after + 1 and page.last >= after:
        return page.items
    if not page.last:
        what = "nothing is stored of it (any more)"
    elif page.last < after:
        what = f"it ends at item {page.last}"
    else:
        what = f"its items up to {page.oldest - 1} were deleted"
    raise stream_gap(task_id, after, page, what)


def stream_gap(task_id: str, after: int, page: Page, what: str) -> StreamGap:
    """Return the error for a reader that cannot continue after the number ``after``; ``what`` says why."""
    text = f"the stream of task {task_id!r} cannot be read after item {after}: {what}"
    return StreamGap(text, first=page.oldest, last=page.last)
