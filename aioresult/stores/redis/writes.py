"""Records on their way into Redis."""

from __future__ import annotations

from aioresult.errors import StoreUnavailable
from aioresult.record import ABSENT, UNFINISHED, Conditional, Record
from aioresult.states import READY_STATES
from aioresult.stores.redis.scripts import ANYTHING, Put, rest


class Write:
    """One record that is being written."""

    __slots__ = ("expected", "failure", "final", "key", "payload", "record", "script", "ttl", "whole", "written")

    def __init__(self, record: Record, key: str, payload: bytes, ttl: float | None, script: Put) -> None:
        self.record = record
        self.key = key
        self.payload = payload
        self.ttl = ttl
        self.script = script
        self.final = record.status in READY_STATES
        """Whether it may replace a final state."""
        self.expected = ""
        self.whole = False
        self.written = False
        self.failure: StoreUnavailable | None = None

    def packed(self) -> bytes:
        """Return the call of the script."""
        return self.script.pack(self.key, self.payload, rest(self.final, self.ttl, self.expected), whole=self.whole)

    def compare(self, record: Conditional, swap: Put) -> None:
        """Let the write depend on what is stored."""
        self.final = False
        if record.over != UNFINISHED:
            self.script = swap
            self.expected = "" if record.over == ABSENT else ANYTHING
