"""The Lua scripts that store records and append to streams inside the server."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from aioresult.stores.redis.wire import pack
from aioresult.stream import REPEATED_AMONG

_PUT: Final = """\
local key, value = KEYS[1], ARGV[1]
local function put(...)
    if ARGV[3] == '' then
        return redis.call('SET', key, value, ...)
    end
    return redis.call('SET', key, value, ARGV[3], ARGV[4], ...)
end
if not put('NX') then
    local head = redis.call('GETRANGE', key, 0, 19)
    if head ~= '' then
        local _, at = string.find(head, '^{"status": ?"')
        local allowed = false
        if at then
            local state = string.sub(head, at + 1, at + 8)
            if state ~= 'SUCCESS"' then
                allowed = ARGV[2] == '1' or (state ~= 'FAILURE"' and state ~= 'REVOKED"')
            end
        end
        if not allowed then
            if at and redis.call('STRLEN', key) ~= #value then
                return 0
            end
            local old = redis.call('GET', key)
            if old ~= value and redis.sha1hex(old) ~= ARGV[5] then
                if at then
                    return 0
                end
                return old
            end
        end
    end
    put()
end
redis.call('PUBLISH', key, value)
return 1
"""
"""Stores a record, sets its expiry and announces it, if it may replace what is stored.

KEYS: the record's key, which is also its channel. ARGV: the record; "1" if its state is final; "EX", "PX" or "" for no
expiry; the lifetime; the SHA1 of an old value that the caller has read and found replaceable, or "".

Returns 1 if stored; 0 if it may not replace the old value; the old value itself if the script cannot read its state
(another serializer than JSON, or compressed): the caller then decodes it, decides by ``states.replaces`` and calls
again with its SHA1. In JSON the script can read the state because Celery writes ``status`` first. Most records are the
first of their task, so this case is tried first, because every call in Lua takes time. If the same value is stored
already, byte for byte, it is stored and announced again, so that a call that is repeated after a lost connection
returns that it was written.
"""

_SWAP: Final = """\
local key, value = KEYS[1], ARGV[1]
local old = redis.call('GET', key)
if old ~= value then
    if (old and redis.sha1hex(old) or '') ~= ARGV[5] then
        return old or 0
    end
    if ARGV[3] == '' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, ARGV[3], ARGV[4])
    end
end
redis.call('PUBLISH', key, value)
return 1
"""
"""Stores a record, sets its expiry and announces it, if the stored value is the one that the caller expects.

KEYS and ARGV as above; the SHA1 is that of the only value that may be replaced, or "" where nothing may be stored.

Returns 1 if stored, or stored already; else the value that was found, or 0 if there is none: the caller decodes it,
decides by ``Record.goes_over`` and calls again with its SHA1.
"""
ANYTHING: Final = "?"
"""Not the SHA1 of any value: nothing is stored, and the old value is returned."""

ENDED: Final = -1
FULL: Final = -2
_LARGEST_MESSAGE: Final = 16_384
"""The most bytes of items in a message; for more, readers are told to read."""

_APPEND: Final = f"""\
local call, stream, record = redis.call, KEYS[1], KEYS[2]
local head = call('GETRANGE', record, 0, 19)
if head ~= '' then
    local _, at = string.find(head, '^{{"status": ?"')
    if at then
        local state = string.sub(head, at + 1, at + 8)
        if state == 'SUCCESS"' or state == 'FAILURE"' or state == 'REVOKED"' then
            return {ENDED}
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
    return {FULL}
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
""; the most items, or ""; "1" to delete the oldest beyond that; "1" to leave out items that are stored already; the
SHA1 of a record that the caller has read and found not final, or ""; the items.

Returns the number of the last of these items; or one of two negative numbers for a final task and a full stream; or the
record, if the script cannot read its state (another serializer than JSON, or compressed): then the caller decides.
"""


def bulk(*parts: str | bytes) -> bytes:
    """Return parts of a command in the form in which they are sent, without their count."""
    return pack(*parts).partition(b"\r\n")[2]


class Script:
    """A script that announces by ``command``, in the form of the packed beginning of its calls.

    Attributes:
        known: calls it by its digest.
        whole: calls it by its text, for a server that does not know it (any more).
    """

    def __init__(self, text: str, keys: int, command: str) -> None:
        text = text.replace("'PUBLISH'", f"'{command}'")
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.known = bulk("EVALSHA", digest, str(keys))
        self.whole = bulk("EVAL", text, str(keys))


class Scripts:
    """The scripts of a store."""

    def __init__(self, command: str) -> None:
        self.put = Script(_PUT, 1, command)
        self.swap = Script(_SWAP, 1, command)
        self.append = Script(_APPEND, 2, command)


CLASSIC: Final = Scripts("PUBLISH")
SHARDED: Final = Scripts("SPUBLISH")


def lifetime(seconds: float | None) -> tuple[str, str]:
    """Return option and number for SET: whole seconds as in Celery, fractions as milliseconds, empty for no expiry."""
    if seconds is None:
        return "", ""
    if seconds == int(seconds):
        return "EX", str(int(seconds))
    return "PX", str(max(1, round(seconds * 1000)))
