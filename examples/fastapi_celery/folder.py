"""A folder as the queue, for trying things out without a server."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem


class Channel(filesystem.Channel):
    """Lets a message appear as a whole.

    kombu's own makes the file first and fills it then. A worker that finds it in between takes it, cannot read it, and
    ends.
    """

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override]  # kombu's own differ, too
        folder, name = Path(self.data_folder_out), f"{time.monotonic_ns() // 10**6}_{uuid.uuid4()}"
        unfinished = folder / f"{name}.part"
        unfinished.write_text(json.dumps(message))
        unfinished.replace(folder / f"{name}.{queue}.msg")


class Transport(filesystem.Transport):
    Channel = Channel


TRANSPORT_ALIASES["folder"] = f"{__name__}:Transport"


def queue_in(data: Path) -> dict[str, Any]:
    """Return the settings of a Celery application whose queue is in the folder ``data``."""
    queue = data / "queue"
    queue.mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(queue),
        "data_folder_out": str(queue),
        "control_folder": str(data / "control"),
        "polling_interval": 0.05,
    }
    return {"broker_url": "folder://", "broker_transport_options": options}
