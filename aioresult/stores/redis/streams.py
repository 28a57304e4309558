"""Streams on Redis: a list for each, whose first element says how many items before the others were deleted.

The key ``celery-task-stream-<id>`` is also the channel. A message is the number of the first new item, followed by each
item as `` <length>:<item>``; without items where they are too large to be sent to everybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any, Final

from aioresult.abc import Store
from aioresult.errors import AioResultError, InvalidTaskId, StoreUnavailable
from aioresult.states import READY_STATES
from aioresult.stores.redis.errors import ServerError
from aioresult.stores.redis.scripts import bulk
from aioresult.stores.redis.wire import Reply, pack
from aioresult.stream import EMPTY, LOOK, REPEATED_AMONG, Append, Chunk, Cursor, News, stream_ended, stream_full

STREAM_KEY: Final = "celery-task-stream-"
_ENDED: Final = -1
_FULL: Final = -2
_NOTHING_SPECIAL: Final = bulk("", "")
"""The arguments for an append that is not repeated, and not expected to find a certain record."""
_LARGEST_MESSAGE: Final = 16_384
"""Bytes of items that travel in a message; beyond that, readers are told to read."""

_APPEND: Final = f"""\
local call, stream, record = redis.call, KEYS[1], KEYS[2]
local head = call('GETRANGE', record, 0, 19)
if head ~= '' then
    local _, at = string.find(head, '^{{"status": ?"')
    if at then
        local state = string.sub(head, at + 1, at + 8)
        if state == 'SUCCESS"' or state == 'FAILURE"' or state == 'REVOKED"' then
            return {_ENDED}
        end
    else
        local old = call('GET', record)
        if redis.sha1hex(old) ~= ARGV[5] then
            return old
        end
    end
end
local items, from, behind = ARGV, 6, nil
if ARGV[4] == '1' then
    local known, newest = {{}}, call('LRANGE', stream, -{REPEATED_AMONG}, -1)
    for index, item in ipairs(newest) do
        known[item] = #newest - index
    end
    behind = known[ARGV[#ARGV]]
    items, from = {{}}, 1
    for index = 6, #ARGV do
        if not known[ARGV[index]] then
            items[#items + 1] = ARGV[index]
        end
    end
end
local deleted = call('LINDEX', stream, 0)
local size = deleted and 0 or call('RPUSH', stream, 0)
local count = #items - from + 1
if count == 1 then
    size = call('RPUSH', stream, items[from])
elseif count == 0 then
    size = call('LLEN', stream)
else
    for index = from, #items, 4000 do
        size = call('RPUSH', stream, unpack(items, index, math.min(index + 3999, #items)))
    end
end
local surplus = ARGV[2] ~= '' and size - 1 - ARGV[2] or 0
if surplus > 0 and ARGV[3] ~= '1' then
    if deleted then
        call('LTRIM', stream, 0, -1 - count)
    else
        call('DEL', stream)
    end
    return {_FULL}
end
deleted = deleted or 0
if surplus > 0 then
    call('LTRIM', stream, surplus + 1, -1)
    call('LPUSH', stream, deleted + surplus)
end
if ARGV[1] == '' then
    call('PERSIST', stream)
else
    call('PEXPIRE', stream, ARGV[1])
end
local last = deleted + size - 1
local first = last - count + 1
local message, length = first, 0
if count == 1 then
    length = #items[from]
    message = first .. ' ' .. length .. ':' .. items[from]
elseif count > 1 then
    local parts = {{first}}
    for index = from, #items do
        length = length + #items[index]
        parts[#parts + 1] = ' ' .. #items[index] .. ':' .. items[index]
    end
    message = table.concat(parts)
end
call('PUBLISH', stream, length > {_LARGEST_MESSAGE} and first or message)
return behind and first - 1 - behind or last
"""
"""Appends items to a stream, sets its expiry and announces them, unless the task is final.

KEYS: the stream's key, which is also its channel; the key of the task's record. ARGV: the lifetime in milliseconds, or
""; the most items, or ""; "1" to delete the oldest beyond that; "1" to leave out what is there already; the SHA1 of a
record that the caller has looked at and found not final, or ""; the items.

Returns the number of the last of these items; or one of two negative numbers for a final task and a full stream; or the
record, where its state cannot be seen from outside (another serializer than JSON, or compressed): the caller decides.
"""

APPEND: Final = _APPEND
APPEND_SHARDED: Final = _APPEND.replace("'PUBLISH'", "'SPUBLISH'")


def sharing_slot(record_key: str, stream_key: str, task_id: str) -> str:
    """Return a key for a stream that a cluster keeps in the same slot as the record.

    A cluster looks at what the first braces enclose, or at the whole key where they enclose nothing.

    Raises:
        InvalidTaskId: there is no such key.
    """
    opened = record_key.find("{")
    closed = record_key.find("}", opened + 1) if opened >= 0 else -1
    if closed > opened + 1:
        return stream_key  # both have the same braces in them
    if "}" in record_key:
        raise InvalidTaskId(
            f"task id {task_id!r}: on a Redis Cluster a task whose id has a closing brace, but no text in braces "
            "before it, can have no stream"
        )
    return f"{stream_key.removesuffix(task_id)}{{{record_key}}}"


def news_of(message: bytes) -> News:
    """Return what a message on a stream's channel says."""
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


class Streams:
    """The streams of one store.

    Args:
        store: whose settings and codec count.
        record_key, stream_key: make keys of ids.
        run: sends packed commands, each with the key that it is about; ``once``: not again by itself.
        checked: returns a reply, or raises what it means.
        script: ``APPEND``, or ``APPEND_SHARDED``.
    """

    def __init__(
        self,
        store: Store,
        record_key: Callable[[str], str],
        stream_key: Callable[[str], str],
        run: Callable[[Sequence[tuple[str, bytes]], bool], Awaitable[list[Reply]]],
        checked: Callable[[Reply], Reply],
        script: str,
    ) -> None:
        self._store = store
        self._record_key = record_key
        self._stream_key = stream_key
        self._run = run
        self._checked = checked
        digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._known = bulk("EVALSHA", digest, "2")
        self._whole = bulk("EVAL", script, "2")
        settings = store.settings
        ttl = settings.result_expires
        self._options = bulk(
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
                replies = await self._run([self._packed(call) for call in pending], True)
            except StoreUnavailable as exc:
                replies = [exc] * len(pending)
            tries -= 1
            pending = [call for call, reply in zip(pending, replies, strict=True) if self._again(call, reply, tries)]
        return [call.outcome for call in calls]

    def _packed(self, call: _Call) -> tuple[str, bytes]:
        append, items = call.append, call.append.items
        key = self._stream_key(append.id)
        stream, record = key.encode(), self._record_key(append.id).encode()
        names = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(stream), stream, len(record), record)
        special = append.repeated or call.expected
        rest = bulk("1" if append.repeated else "", call.expected) if special else _NOTHING_SPECIAL
        packed = b"".join([b"$%d\r\n%b\r\n" % (len(item), item) for item in items])
        head = self._whole if call.whole else self._known
        return key, b"*%d\r\n%b%b%b%b%b" % (10 + len(items), head, names, self._options, rest, packed)

    def _again(self, call: _Call, reply: Reply | StoreUnavailable, tries: int) -> bool:
        """Note what has been decided, and return whether the call has to be sent again."""
        append = call.append
        if isinstance(reply, StoreUnavailable):
            call.outcome = reply
            append.repeated = True
            return tries > 0
        if type(reply) is bytes:
            call.expected = sha1(reply, usedforsecurity=False).hexdigest()
            record = self._store.codec.decode_record(append.id, reply)
            call.outcome = stream_ended(append.id)
            return record.status not in READY_STATES
        if type(reply) is ServerError and reply.code == "NOSCRIPT":
            call.whole = True
            return True
        if reply == _ENDED:
            call.outcome = stream_ended(append.id)
        elif reply == _FULL:
            call.outcome = stream_full(append.id, self._store.settings.stream_max_items)
        else:
            number = self._checked(reply)
            if not isinstance(number, int):
                raise AioResultError(
                    f"Redis at {self._store.location} answered with {type(reply).__name__}, not a number"
                )
            call.outcome = number
        return False

    async def read_many(self, cursors: Sequence[Cursor]) -> list[Chunk]:
        """Read by a few plain commands for each cursor, all in one buffer.

        How many items were deleted is read before and after the items: where both differ from what was supposed, the
        items were not those that were meant, and are read again.
        """
        deleted = [0] * len(cursors)
        chunks: list[Chunk | None] = [None] * len(cursors)
        while pending := [index for index, chunk in enumerate(chunks) if chunk is None]:
            commands = [command for index in pending for command in self._reading(cursors[index], deleted[index])]
            replies: list[Any] = [self._checked(reply) for reply in await self._run(commands, False)]
            for position, index in enumerate(pending):
                before, items, length, after = replies[4 * position : 4 * position + 4]
                if before is None or after is None:
                    chunks[index] = EMPTY
                elif int(before) == int(after) == deleted[index]:
                    chunks[index] = Chunk(deleted[index] + 1, deleted[index] + int(length) - 1, items)
                else:
                    deleted[index] = int(after)
        return [chunk for chunk in chunks if chunk is not None]

    def _reading(self, cursor: Cursor, deleted: int) -> list[tuple[str, bytes]]:
        key = self._stream_key(cursor.id)
        start = max(cursor.after - deleted, 0) + 1
        number = pack("LINDEX", key, "0")
        items = pack("LRANGE", key, str(start), str(start + cursor.limit - 1))
        return [(key, command) for command in (number, items, pack("LLEN", key), number)]


class _Call:
    """One append on its way into the store."""

    __slots__ = ("append", "expected", "outcome", "whole")

    def __init__(self, append: Append) -> None:
        self.append = append
        self.expected = ""
        self.whole = False
        self.outcome: int | AioResultError = 0
