"""Which task a path means, and what of it."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote

from aioresult.integrations.asgi.request import Scope

SNAPSHOT: Final = ""
EVENTS: Final = "events"
REVOKE: Final = "revoke"


class Route(NamedTuple):
    """A path, taken apart: ``what`` is ``SNAPSHOT``, ``EVENTS`` or ``REVOKE``."""

    task_id: str
    what: str


def route_of(scope: Scope) -> Route | None:
    """Return what the path below the place where the application is mounted means; ``None`` where it means nothing."""
    match _segments(scope):
        case [task_id] if task_id:
            return Route(task_id, SNAPSHOT)
        case [task_id, (("events" | "revoke") as what)] if task_id:
            return Route(task_id, what)
    return None


def _segments(scope: Scope) -> list[str]:
    """Return the parts of the path. An id may hold an escaped slash, which only the raw path tells from a real one."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if not (root and (path == root or path.startswith(f"{root}/"))):
        root = ""  # some servers and frameworks give the path without it
    raw = (scope.get("raw_path") or b"").decode("latin-1").partition("?")[0]
    if unquote(raw) == path:
        return [unquote(part) for part in raw.split("/")[1 + root.count("/") :]]
    return path[len(root) :].split("/")[1:]
