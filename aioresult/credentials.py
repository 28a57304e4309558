"""Showing URLs without their passwords."""

from __future__ import annotations

from typing import Final

MASK: Final = "***"
"""What is shown in place of a hidden part."""


def without_credentials(url: str) -> str:
    """Return ``url`` with every part masked that may be a user, a password or an option's value.

    A password in which ``/``, ``?``, ``#``, ``;`` or ``@`` is not percent-encoded is hidden too: everything before the
    last ``@`` is masked.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or "@" in scheme:
        return MASK
    place, mark, query = rest.partition("?")
    if "@" in query:  # an option's value, or the end of a password that holds the question mark
        return f"{scheme}://{MASK}"
    _, at, place = place.rpartition("@")
    return f"{scheme}://{MASK if at else ''}{at}{place}{mark}{MASK if query else ''}"
