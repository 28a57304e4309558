"""The places that pages show, and those that are used instead while they are tested."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from tests.servers.process import free_port

SHOWN: Final = {
    "redis": "redis://localhost:6379/0",
    "postgresql": "postgresql://localhost/shop",
    "mongodb": "mongodb://localhost:27017/shop",
    "mysql": "mysql://localhost/shop",
}
"""The URL of each server, as pages write it."""
_PORT: Final = re.compile(r"\b8000\b")


def needed(text: str) -> list[str]:
    """Return the names of the servers that a page needs."""
    return [name for name, url in SHOWN.items() if url in text]


def translation(text: str, urls: Mapping[str, str]) -> Callable[[str], str]:
    """Return what puts real places into the text of a block: ``urls`` by their names, and a free port for 8000."""
    places = {}
    for name, url in urls.items():
        parts = urlsplit(SHOWN[name])
        places[SHOWN[name]] = url
        real = urlsplit(url)
        places[f"{parts.netloc}{parts.path}"] = f"{real.netloc}{real.path}"
        places[f"127.0.0.1:{parts.port}{parts.path}"] = f"{real.netloc}{real.path}"
    longest_first = sorted(places, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first))) if places else None
    port = str(free_port()) if _PORT.search(text) else ""

    def translate(block: str) -> str:
        translated = pattern.sub(lambda found: places[found[0]], block) if pattern else block
        return _PORT.sub(port, translated) if port else translated

    return translate
