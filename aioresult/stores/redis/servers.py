"""What servers say of themselves."""

from __future__ import annotations

from collections.abc import Mapping

from aioresult.stores.redis.wire import Reply


def parsed(reply: Reply) -> dict[str, str]:
    """Return the facts in a reply to ``INFO``."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def details(info: Mapping[str, str], policy: Reply, resp: int) -> dict[str, str]:
    """Return what an operator wants to know, from ``INFO`` and the eviction policy (where that may be asked for)."""
    found = {"server": _version(info), "protocol": f"RESP{resp}", "role": info.get("role", "unknown")}
    eviction = _setting(policy)
    if eviction:
        evicts = info.get("maxmemory", "0") != "0" and eviction != "noeviction"
        found["eviction"] = f"{eviction}: results may vanish when memory is short" if evicts else eviction
    return found


def _version(info: Mapping[str, str]) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', 'of unknown version')}"


def _setting(reply: Reply) -> str | None:
    """Return the value in a reply to ``CONFIG GET``: a map on RESP3, a list on RESP2, an error if not permitted."""
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode()
    return None
