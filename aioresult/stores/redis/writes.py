"""Writes of records to Redis."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from aioresult.errors import StoreUnavailable
from aioresult.record import ABSENT, UNFINISHED, Conditional, Record
from aioresult.states import READY_STATES
from aioresult.stores.redis.scripts import ANYTHING, Script, Scripts, bulk, lifetime


class Write(msgspec.Struct, eq=False):
    """One record that is being written.

    Attributes:
        final: whether it may replace a final state.
        expected: the SHA1 of the old value that it may replace.
        whole: whether to send the text of the script.
    """

    record: Record
    key: str
    payload: bytes
    ttl: float | None
    script: Script
    final: bool
    expected: str = ""
    whole: bool = False
    written: bool = False
    failure: StoreUnavailable | None = None

    def packed(self) -> bytes:
        """Return the call of the script.

        Parts that are the same in thousands of calls are packed once, which takes a third of the time of packing each
        call.
        """
        head = self.script.whole if self.whole else self.script.known
        name, value, rest = self.key.encode(), self.payload, _rest(self.final, self.ttl, self.expected)
        return b"*9\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(name), name, len(value), value, rest)


def write_of(record: Record, key: str, payload: bytes, ttl: float | None, scripts: Scripts) -> Write:
    """Return the write of ``record``; that of a conditional record depends on what is stored."""
    if not isinstance(record, Conditional):
        return Write(record, key, payload, ttl, scripts.put, record.status in READY_STATES)
    if record.over == UNFINISHED:
        return Write(record, key, payload, ttl, scripts.put, False)
    return Write(record, key, payload, ttl, scripts.swap, False, "" if record.over == ABSENT else ANYTHING)


@lru_cache(maxsize=256)
def _rest(final: bool, ttl: float | None, expected: str) -> bytes:
    """Return the packed arguments after key and value."""
    return bulk("1" if final else "", *lifetime(ttl), expected)
