"""A client's position: the ``id:`` of an event, which comes back as ``Last-Event-ID`` or ``?after=``."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, Self

import msgspec

from aioresult.errors import AioResultError

END: Final = "end"
_FORM: Final = re.compile(r"([0-9]{1,15})(?:-([0-9a-f]{12}|end))?")


class InvalidCursor(AioResultError, ValueError):
    """Raised for a cursor that is not the id of an event."""


class Position(msgspec.Struct, frozen=True):
    """What a client has seen. As text: ``12``, ``12-5f0c9a3b77e1``, ``12-end``.

    Any server can continue from it, because it consists of a number from the store and a digest of what is stored.

    Attributes:
        seq: the number of the last item; 0 for none.
        state: a digest of the last state, or ``end``, or empty where none was seen.
    """

    seq: int = 0
    state: str = ""

    @property
    def over(self) -> bool:
        """Whether the end was seen, so that nothing can follow."""
        return self.state == END

    def __str__(self) -> str:
        return f"{self.seq}-{self.state}" if self.state else str(self.seq)

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return the position that ``text`` describes; without text, the beginning.

        Raises:
            InvalidCursor: it is not a position.
        """
        if not text:
            return cls()
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidCursor(
                f"{text!r:.60} is no cursor; a cursor is the id of an event that was sent, or the number of an item"
            )
        return cls(int(found[1]), found[2] or "")


def digest(state: bytes) -> str:
    """Return what distinguishes one state from the next, the same on every server."""
    return blake2b(state, digest_size=6).hexdigest()
