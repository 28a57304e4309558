"""One server-sent event."""

from __future__ import annotations

import re
from typing import Self, TypedDict

_LINES = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\r\n\0]")


class Fields(TypedDict):
    """The arguments of FastAPI's ``ServerSentEvent``."""

    raw_data: str | None
    event: str | None
    id: str | None
    retry: int | None
    comment: str | None


class Event(bytes):
    """One server-sent event, as the bytes that are sent, with its fields as attributes.

    Since it is bytes, it works with everything that streams bytes: Starlette's ``StreamingResponse``, sse-starlette's
    and FastAPI's ``EventSourceResponse``, Django's ``StreamingHttpResponse``. A FastAPI *path operation that yields*
    takes ``ServerSentEvent(**event.fields())``.

    Attributes:
        event: the name: ``state``, ``progress``, ``item``, ``unreadable`` or ``end``; ``None`` where there is no data.
        data: JSON.
        id: the cursor.
        retry: milliseconds after which a browser should reconnect.
        comment: text that browsers ignore, such as a heartbeat.
    """

    event: str | None
    data: str | None
    id: str | None
    retry: int | None
    comment: str | None

    def __new__(
        cls,
        event: str | None = None,
        data: str | None = None,
        id: str | None = None,  # noqa: A002  (the name of the field)
        *,
        retry: int | None = None,
        comment: str | None = None,
    ) -> Self:
        """Return the event.

        Raises:
            ValueError: a name or an id contains a line break or NUL.
        """
        lines = []
        if comment is not None:
            lines += [f": {line}" for line in _LINES.split(comment)]
        if retry is not None:
            lines.append(f"retry: {retry:d}")
        if id is not None:
            lines.append(f"id: {_checked(id)}")
        if event is not None:
            lines.append(f"event: {_checked(event)}")
        if data is not None:
            lines += [f"data: {line}" for line in _LINES.split(data)]
        made = super().__new__(cls, ("\n".join(lines) + "\n\n").encode())
        made.event, made.data, made.id, made.retry, made.comment = event, data, id, retry, comment
        return made

    def fields(self) -> Fields:
        """Return the arguments of FastAPI's ``ServerSentEvent``."""
        return Fields(raw_data=self.data, event=self.event, id=self.id, retry=self.retry, comment=self.comment)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.event} id={self.id!r} data={self.data!r:.100}>"


def _checked(text: str) -> str:
    if _FORBIDDEN.search(text):
        raise ValueError(f"an event's name and id are one line without NUL, not {text!r:.60}")
    return text
