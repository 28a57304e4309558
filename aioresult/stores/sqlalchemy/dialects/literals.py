"""Values as literals of MySQL and MariaDB, for statements without parameters.

The drivers for MySQL send values as literals too, and put backslashes before quotes. Whether this is safe against SQL
injection depends on the session: with ``sql_mode=NO_BACKSLASH_ESCAPES`` a backslash is an ordinary character, and in a
character set such as GBK or Shift JIS it may be the second half of a character. The literals made here contain neither
quotes nor backslashes, and mean the same in every mode and character set.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from aioresult.errors import EncodeError

_PLAIN: Final = bytes(octet for octet in range(0x20, 0x7F) if octet not in b"'\\%")
"""Bytes that need no encoding between quotes. The percent sign is left out, because drivers interpret it."""


def literal(value: Any) -> str:
    """Return ``value`` as a literal.

    Raises:
        EncodeError: no column holds values of its type.
    """
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return f"_utf8mb4 x'{value.encode().hex()}'"
    if isinstance(value, bytes):
        if value and not value.translate(None, _PLAIN):  # safe as it is, as JSON often is
            return f"'{value.decode('ascii')}'"
        return f"FROM_BASE64('{b64encode(value).decode('ascii')}')" if value else "x''"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, datetime):
        return f"'{value.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"
    raise EncodeError(f"a value of type {type(value).__name__} cannot be stored in a column of MySQL")


def listed(values: Iterable[Any]) -> str:
    """Return ``values`` as literals with commas between them."""
    return ", ".join(map(literal, values))
