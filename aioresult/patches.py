"""Parts of the standard library that gevent has replaced in this process."""

from __future__ import annotations

import sys
from typing import Any


def patched_by_gevent() -> bool:
    """Return whether what Python calls a thread is a greenlet in this process."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def original(module: str, name: str) -> Any:
    """Return what ``module`` had under ``name`` before gevent replaced it; only where gevent did so."""
    return sys.modules["gevent.monkey"].get_original(module, name)
