"""Celery's own encoder and decoder of results, to compare with; connects to nothing."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.backends.redis import RedisBackend

from aioresult.codec import Codec
from aioresult.settings import make_settings

# These have no types, or not all.
kombu_json: Any = import_module("kombu.utils.json")
kombu_serialization: Any = import_module("kombu.serialization")
msgpack: Any = import_module("msgpack")


class CeleryCodec:
    """What a Celery worker of the installed version writes to Redis, and what its client reads from there."""

    def __init__(self, **conf: Any) -> None:
        conf.setdefault("accept_content", [conf.get("result_serializer", "json")])
        self.app = Celery("codec", backend="redis://127.0.0.1:1/0", set_as_current=False)
        self.app.conf.update(conf)
        self.backend = RedisBackend(app=self.app, url="redis://127.0.0.1:1/0")

    def write(self, task_id: str, result: Any, state: str, traceback: str | None = None, **request: Any) -> bytes:
        """Return the bytes that a worker stores."""
        context = Context(id=task_id, _children=request.pop("children", []), **request)
        prepared = (
            self.backend.prepare_exception(result)
            if isinstance(result, BaseException)
            else self.backend.prepare_value(result)
        )
        meta = self.backend._get_result_meta(prepared, state, traceback, context)
        return self.encode({**meta, "task_id": task_id})

    def encode(self, value: Any) -> bytes:
        encoded: str | bytes = self.backend.encode(value)
        return encoded.encode() if isinstance(encoded, str) else encoded

    def decode(self, payload: bytes) -> Any:
        return self.backend.decode(payload)

    def read(self, payload: bytes) -> dict[str, Any]:
        """Return what a client makes of the stored bytes, with exceptions rebuilt."""
        meta: dict[str, Any] = self.backend.decode_result(payload)
        return meta


def codec(**settings: Any) -> Codec:
    """Return our codec for these settings; a serializer that is named is accepted."""
    if "result_serializer" in settings:
        settings.setdefault("accept_content", [settings["result_serializer"]])
    return Codec(make_settings(settings))


def child(task_id: str) -> SimpleNamespace:
    """Return what Celery takes for the result of a subtask."""
    return SimpleNamespace(as_tuple=lambda: ((task_id, None), None))
