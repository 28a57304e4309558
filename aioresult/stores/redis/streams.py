"""Streams on Redis: a list for each, whose first element is the number of items that were deleted.

The key ``celery-task-stream-<id>`` is also the channel. A message is the number of the first new item, followed by each
item as `` <length>:<item>``; without items if they are too large to be sent to all readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha1
from itertools import islice
from typing import Any, Final

import msgspec

from aioresult.errors import AioResultError, InvalidTaskId, StoreUnavailable
from aioresult.settings import Settings
from aioresult.states import READY_STATES
from aioresult.stores.redis.errors import ServerError
from aioresult.stores.redis.keyed import KeyedStore
from aioresult.stores.redis.scripts import CLASSIC, ENDED, FULL, bulk
from aioresult.stores.redis.wire import Reply, pack
from aioresult.stream import EMPTY, LOOK, Append, Chunk, Cursor, News, stream_ended, stream_full

_UNREAD: Final = -1
"""In place of the number of deleted items: it is read together with the items."""
_NOTHING_SPECIAL: Final = bulk("", "")
"""The arguments for an append that is not repeated and expects no certain record."""


def sharing_slot(record_key: str, stream_key: str, task_id: str) -> str:
    """Return a key for a stream that a cluster keeps in the same slot as the record.

    A cluster hashes the text in the first braces, or the whole key if they are empty.

    Raises:
        InvalidTaskId: no such key exists.
    """
    opened = record_key.find("{")
    closed = record_key.find("}", opened + 1) if opened >= 0 else -1
    if closed > opened + 1:
        return stream_key  # both contain the same braces
    if "}" in record_key:
        raise InvalidTaskId(
            f"task id {task_id!r}: on a Redis Cluster a task whose id has a closing brace, but no text in braces "
            "before it, can have no stream"
        )
    return f"{stream_key.removesuffix(task_id)}{{{record_key}}}"


def news_of(message: bytes) -> News:
    """Return the news in a message of a stream's channel."""
    head, _, rest = message.partition(b":")
    number, _, length = head.partition(b" ")
    if not length:
        return LOOK
    size = int(length)
    if size == len(rest):  # the usual case: one item
        return News(int(number), (rest,))
    items = [rest[:size]]
    while size < len(rest):
        colon = rest.index(b":", size)
        end = colon + 1 + int(rest[size + 1 : colon])
        items.append(rest[colon + 1 : end])
        size = end
    return News(int(number), items)


def _whole(stored: Sequence[bytes], limit: int) -> tuple[Chunk | None, int]:
    """Return the chunk in the first ``limit + 1`` elements of a list, if these are all, and how many were deleted."""
    if not stored:
        return EMPTY, 0
    deleted, items = int(stored[0]), stored[1:]
    return Chunk(deleted + 1, deleted + len(items), items) if len(items) < limit else None, deleted


class _Call(msgspec.Struct, eq=False):
    """One append that is being stored."""

    append: Append
    expected: str = ""
    whole: bool = False
    outcome: int | AioResultError = 0


class StreamStore(KeyedStore):
    """Keeps each stream under a key of its own."""

    keeps_streams = True
    _scripts = CLASSIC

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        ttl = settings.result_expires
        self._append_options = bulk(
            str(max(1, round(ttl * 1000))) if ttl else "",
            "" if settings.stream_max_items is None else str(settings.stream_max_items),
            "1" if settings.stream_trim else "",
        )

    async def append_many(self, appends: Sequence[Append]) -> list[int | AioResultError]:
        """Append by one call of a script for each stream, all in one buffer."""
        calls = [_Call(append) for append in appends]
        pending = calls
        tries = 2
        while pending:
            try:
                replies = await self._run([self._packed(call) for call in pending], once=True)
            except StoreUnavailable as exc:
                replies = [exc] * len(pending)
            tries -= 1
            pending = [call for call, reply in zip(pending, replies, strict=True) if self._again(call, reply, tries)]
        return [call.outcome for call in calls]

    def _packed(self, call: _Call) -> tuple[str, bytes]:
        append, items = call.append, call.append.items
        key = self._stream_key(append.id)
        stream, record = key.encode(), (self._prefix + append.id).encode()
        names = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(stream), stream, len(record), record)
        special = append.repeated or call.expected
        rest = bulk("1" if append.repeated else "", call.expected) if special else _NOTHING_SPECIAL
        packed = b"".join([b"$%d\r\n%b\r\n" % (len(item), item) for item in items])
        head = self._scripts.append.whole if call.whole else self._scripts.append.known
        return key, b"*%d\r\n%b%b%b%b%b" % (10 + len(items), head, names, self._append_options, rest, packed)

    def _again(self, call: _Call, reply: Reply | StoreUnavailable, tries: int) -> bool:
        """Note the outcome, and return whether the call must be sent again."""
        append = call.append
        if isinstance(reply, StoreUnavailable):
            call.outcome = reply
            append.repeated = True
            return tries > 0
        if type(reply) is bytes:
            call.expected = sha1(reply, usedforsecurity=False).hexdigest()
            record = self.codec.decode_record(append.id, reply)
            call.outcome = stream_ended(append.id)
            return record.status not in READY_STATES
        if type(reply) is ServerError and reply.code == "NOSCRIPT":
            call.whole = True
            return True
        if reply == ENDED:
            call.outcome = stream_ended(append.id)
        elif reply == FULL:
            call.outcome = stream_full(append.id, self.settings.stream_max_items)
        else:
            number = self._checked(reply)
            if not isinstance(number, int):
                raise AioResultError(f"Redis at {self.location} answered with {type(reply).__name__}, not a number")
            call.outcome = number
        return False

    async def read_many(self, cursors: Sequence[Cursor]) -> list[Chunk]:
        """Read by plain commands for each cursor, all in one buffer.

        One command reads a stream from its beginning, which is enough if it also reads its end. Otherwise the number of
        deleted items is read before and after the items. If both differ from the assumed number, other items were read
        than intended, and the read is repeated.
        """
        deleted = [_UNREAD if cursor.limit and not cursor.after else 0 for cursor in cursors]
        chunks: list[Chunk | None] = [None] * len(cursors)
        while pending := [index for index, chunk in enumerate(chunks) if chunk is None]:
            commands = [command for index in pending for command in self._reading(cursors[index], deleted[index])]
            replies: Iterator[Any] = map(self._checked, await self._run(commands))
            for index in pending:
                if deleted[index] == _UNREAD:
                    chunks[index], deleted[index] = _whole(next(replies), cursors[index].limit)
                    continue
                before, items, length, after = islice(replies, 4)
                if before is None or after is None:
                    chunks[index] = EMPTY
                elif int(before) == int(after) == deleted[index]:
                    chunks[index] = Chunk(deleted[index] + 1, deleted[index] + int(length) - 1, items)
                else:
                    deleted[index] = int(after)
        return [chunk for chunk in chunks if chunk is not None]

    def _reading(self, cursor: Cursor, deleted: int) -> list[tuple[str, bytes]]:
        key = self._stream_key(cursor.id)
        if deleted == _UNREAD:
            return [(key, pack("LRANGE", key, "0", str(cursor.limit)))]
        start = max(cursor.after - deleted, 0) + 1
        number = pack("LINDEX", key, "0")
        items = pack("LRANGE", key, str(start), str(start + cursor.limit - 1))
        return [(key, command) for command in (number, items, pack("LLEN", key), number)]
