"""Showing URLs without their passwords."""

from __future__ import annotations

from typing import Final

MASK: Final = "***"
"""Is shown in place of what is hidden."""


def without_credentials(url: str) -> str:
    """Return ``url`` with everything masked that may be a user, a password or an option's value.

    A password in which ``/``, ``?``, ``#``, ``;`` or ``@`` is not percent-encoded does not show either: what stands
    before the last ``@`` is masked, wherever that is.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or "@" in scheme:
        return MASK
    place, mark, query = rest.partition("?")
    if "@" in query:  # an option's value, or the end of a password that holds the question mark
        return f"{scheme}://{MASK}"
    _, at, place = place.rpartition("@")
    return f"{scheme}://{MASK if at else ''}{at}{place}{mark}{MASK if query else ''}"
