"""Advice for a server's certificate that is not trusted: OpenSSL gives the reason, but names no option."""

from __future__ import annotations

from typing import Final

_UNKNOWN: Final = ("self-signed certificate", "self signed certificate", "issuer certificate")
"""OpenSSL's texts for an authority that is not trusted."""
_OTHER_NAME: Final = ("mismatch", "does not match host name")


def advice_on_certificate(words: str, option: str) -> str:
    """Return what to change in the URL if ``words`` are about a certificate that is not trusted, else an empty text.

    Args:
        words: the driver's error text.
        option: the option of the URL that names the authority.
    """
    lower = words.lower()
    if "certificate" not in lower:
        return ""
    if any(sign in lower for sign in _OTHER_NAME):
        return "; the URL has to name the host as the certificate does"
    if any(sign in lower for sign in _UNKNOWN) or lower.endswith("certificate verify failed"):
        return f"; name the authority that has issued it in the URL: {option}=/path/to/ca.pem"
    return ""
