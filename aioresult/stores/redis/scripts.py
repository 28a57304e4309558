"""The Lua scripts that store a record inside the server, and how their calls are packed."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import Final

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
expiry; the lifetime; the SHA1 of an old value that the caller has looked at and found replaceable, or "".

Returns 1 if stored; 0 if it may not replace the old value; the old value itself where its state cannot be seen from
outside (another serializer than JSON, or compressed): the caller then decodes it, decides by ``states.replaces`` and
calls again with its SHA1. JSON shows its state because Celery writes ``status`` first. Most records are the first of
their task, so that is tried first: every call takes its time in Lua. A value that is stored already, byte for byte, is
stored and announced again: whoever repeats a call after a lost connection hears that it was written.
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
"""Stores a record, sets its expiry and announces it, if what is stored is what the caller expects.

KEYS and ARGV as above; the SHA1 is that of the only value that may be replaced, or "" where nothing may be stored.

Returns 1 if stored, or stored already; else the value that was found: the caller decodes it, decides by
``Record.goes_over`` and calls again with its SHA1; 0 where none was found.
"""
ANYTHING: Final = "?"
"""The SHA1 of no value: nothing is stored, and what was found is returned."""


def bulk(*parts: str | bytes) -> bytes:
    """Return parts of a command as they are sent."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in map(_bytes, parts))


def _bytes(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part


class Put:
    """Packs calls of a script: by its digest or, where the server does not know it (any more), by its text.

    What is the same in thousands of calls is packed once, which takes a third of the time of packing each as a whole.
    """

    def __init__(self, text: str) -> None:
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._known = b"*9\r\n" + bulk("EVALSHA", digest, "1")
        self._whole = b"*9\r\n" + bulk("EVAL", text, "1")

    def pack(self, key: str, value: bytes, rest: bytes, *, whole: bool = False) -> bytes:
        """Return the packed call for one record; ``rest`` comes from ``rest``."""
        name = key.encode()
        head = self._whole if whole else self._known
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(name), name, len(value), value, rest)


@lru_cache(maxsize=256)
def rest(final: bool, ttl: float | None, expected: str = "") -> bytes:
    """Return the packed arguments behind key and value."""
    return bulk("1" if final else "", *lifetime(ttl), expected)


PUT: Final = Put(_PUT)
PUT_SHARDED: Final = Put(_PUT.replace("'PUBLISH'", "'SPUBLISH'"))
SWAP: Final = Put(_SWAP)
SWAP_SHARDED: Final = Put(_SWAP.replace("'PUBLISH'", "'SPUBLISH'"))


def lifetime(seconds: float | None) -> tuple[str, str]:
    """Return option and number for SET: whole seconds as Celery's, fractions as milliseconds, empty for no expiry."""
    if seconds is None:
        return "", ""
    if seconds == int(seconds):
        return "EX", str(int(seconds))
    return "PX", str(max(1, round(seconds * 1000)))
