"""Details about servers, as far as the user may read them."""

from __future__ import annotations

from typing import Final

from aioresult.stores.redis.errors import is_denied, is_missing
from aioresult.stores.redis.wire import Reply, pack

QUESTIONS: Final = (pack("INFO"), pack("CONFIG", "GET", "maxmemory-policy"))
"""The commands whose replies ``details`` takes."""
_DENIED: Final = "not permitted (the user lacks {})"
_MISSING: Final = "not known (the server has no command {})"


def details(info: Reply, policy: Reply, resp: int) -> dict[str, str]:
    """Return details for operators, from the replies to ``QUESTIONS``, which may be errors."""
    facts = _parsed(info)
    version = f"Redis {facts.get('redis_version', 'of unknown version')}"
    if "valkey_version" in facts:
        version = f"Valkey {facts['valkey_version']}"
    found = {"server": version, "protocol": f"RESP{resp}", "role": facts.get("role", "unknown")}
    if is_denied(info):
        found["server"] = found["role"] = _DENIED.format("+info")
    elif is_missing(info):
        found["server"] = found["role"] = _MISSING.format("INFO")
    if is_denied(policy):
        found["eviction"] = _DENIED.format("+config|get")
    elif is_missing(policy):
        found["eviction"] = _MISSING.format("CONFIG")
    elif eviction := _setting(policy):
        evicts = facts.get("maxmemory", "0") != "0" and eviction != "noeviction"
        found["eviction"] = f"{eviction}: results may vanish when memory is short" if evicts else eviction
    return found


def is_in_cluster(info: Reply) -> bool:
    """Return whether the server is part of a cluster, if the reply to ``INFO`` says so."""
    return _parsed(info).get("cluster_enabled") == "1"


def _parsed(reply: Reply) -> dict[str, str]:
    """Return the facts in a reply to ``INFO``."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _setting(reply: Reply) -> str | None:
    """Return the value in a reply to ``CONFIG GET``: a map on RESP3, a list on RESP2."""
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode()
    return None
