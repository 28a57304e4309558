"""Origins of pages: which one is that of the site itself."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_SECURE: Final = ("https", "wss")


def is_own(origin: str, host: str, scheme: str) -> bool:
    """Return whether ``origin`` is that of the site which a request is for: the same scheme, host and port (RFC 6454).

    If the server knows that the request came by TLS, a page without TLS is another site's, since anybody on the network
    could have changed it. If not, there may be a proxy that ended TLS and did not say so; then pages of both schemes
    are accepted.

    Args:
        origin: the header ``Origin``.
        host: the header ``Host``. A default port may be in it, or left out.
        scheme: the request's, as the server knows it: of its own connection, or from a proxy that it trusts.
    """
    page = origin.partition("://")[0]
    if page not in _PORTS or (scheme in _SECURE and page != "https"):
        return False
    place = _place(origin, page)
    return place is not None and place == _place(f"{page}://{host}", page)


def _place(url: str, scheme: str) -> tuple[str, int] | None:
    """Return the host and the port; ``None`` if there is no host."""
    try:
        parts = urlsplit(url)
        return (parts.hostname, parts.port or _PORTS[scheme]) if parts.hostname else None
    except ValueError:
        return None
