"""The request that ``authorize`` gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from functools import cached_property
from http.cookies import SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Headers(Mapping[str, str]):
    """The headers of a request, under names in any case; several of one name are joined by commas."""

    def __init__(self, scope: Scope) -> None:
        self._values: dict[str, str] = {}
        for raw_name, raw_value in scope.get("headers", ()):
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in self._values:
                value = f"{self._values[name]}{'; ' if name == 'cookie' else ', '}{value}"
            self._values[name] = value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values


class Request:
    """One request, or the opening of one WebSocket, with the attribute names of Starlette.

    Attributes:
        scope: the ASGI scope, with the keys that middleware has added, such as ``scope["session"]``.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @property
    def method(self) -> str:
        """``GET``, ``HEAD`` or ``POST``; ``GET`` for a WebSocket, which is opened by such a request."""
        return str(self.scope.get("method", "GET"))

    @property
    def path(self) -> str:
        """The whole path, decoded, including the place where this application is mounted."""
        return str(self.scope["path"])

    @cached_property
    def headers(self) -> Headers:
        """The headers."""
        return Headers(self.scope)

    @cached_property
    def query(self) -> dict[str, str]:
        """The query parameters; the last one of several with the same name."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))

    @property
    def query_params(self) -> dict[str, str]:
        """The same as ``query``, under Starlette's name."""
        return self.query

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies."""
        found: dict[str, str] = {}
        for part in self.headers.get("cookie", "").split(";"):
            name, equals, value = part.strip().partition("=")
            if equals:
                found[name] = _unquoted(value)
        return found

    @property
    def user(self) -> Any:
        """What an authentication middleware has put into the scope as ``user``; ``None`` where there is none."""
        return self.scope.get("user")

    @property
    def client(self) -> str:
        """The client's address, if the server gives it; otherwise empty."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""


def _unquoted(value: str) -> str:
    """Return a cookie's value without quotation marks and escapes."""
    if not value.startswith('"'):
        return value
    jar: SimpleCookie = SimpleCookie()
    jar.load(f"value={value}")
    return jar["value"].value if "value" in jar else value


Authorize = Callable[[Request, str], "bool | Awaitable[bool]"]
"""Returns whether the client may see the task of this id, or stop it; a function or a coroutine function."""


def anyone(_request: Request, _task_id: str) -> bool:
    """Let everybody see every task."""
    return True


PUBLIC: Final[Authorize] = anyone
"""For ``authorize=``: everybody who knows, or guesses, a task's id sees its result."""
