"""The serializers for Celery's results, with kombu's names and formats."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from aioresult.codec import jsonvalues, pickles
from aioresult.codec.hints import text_of
from aioresult.codec.paths import Judge, first_problem, has_parts
from aioresult.codec.plain import base_form
from aioresult.errors import SettingsError


class Serializer(msgspec.Struct, frozen=True, kw_only=True):
    """One way to turn values into bytes.

    Attributes:
        name: as in ``result_serializer``.
        text: whether the bytes are UTF-8 text, which MongoDB stores as a string.
        dumps: encodes a value; may raise any exception, because it calls code of the value.
        loads: decodes it; may raise any exception.
        judge, judge_key: return why a part of a value, or a key of a dict, cannot be encoded.
        supported: what can be encoded, for error messages.
    """

    name: str
    text: bool
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]
    judge: Judge
    judge_key: Judge
    supported: str


def _judge_by_trying(name: str, dumps: Callable[[Any], object], in_parts: Callable[[Any], bool] | None = None) -> Judge:
    """Return a judge that tries to encode a value; if ``in_parts`` holds for it, its parts are judged instead."""

    def judge(value: Any) -> str | None:
        if in_parts is not None and in_parts(value):
            return None
        try:
            dumps(value)
        except Exception as exc:  # noqa: BLE001  (the exception of the value's own code is the reason)
            why = "" if isinstance(exc, TypeError) else f" ({type(exc).__name__}: {text_of(exc) or '?'})"
            return f"object of type {type(value).__qualname__} cannot be encoded as {name}{why}"
        return None

    return judge


def _is_dict_or_list(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple))


def _json() -> Serializer:
    return Serializer(
        name="json",
        text=True,
        dumps=lambda value: jsonvalues.encode(value).encode(),
        loads=jsonvalues.decode,
        judge=_judge_by_trying("JSON", jsonvalues.encode, has_parts),
        judge_key=_judge_by_trying("a key in JSON", jsonvalues.key_form),
        supported="None, bool, int, float, str, bytes, list, tuple, dict, set, deque, datetime, date, time, timedelta, "
        "Decimal, UUID, enums, dataclasses, msgspec structs, attrs classes, pydantic models, NumPy's numbers and "
        "objects with a method __json__",
    )


_OTHERWISE: Final = "what else JSON takes must be made plain first, by msgspec.to_builtins(value) for one"
_SURELY_SHALLOW: Final = 5000 if sys.version_info >= (3, 14) else sys.maxsize
"""A payload of up to so many bytes cannot be nested too deeply, since each level takes a byte."""
_MSGPACK_TYPES: Final = (str, int, float, bytes, bytearray, memoryview, dict, list, tuple, type(None))


def _msgpack() -> Serializer:
    encoder = msgspec.msgpack.Encoder(enc_hook=base_form)
    out_of_range = _judge_by_trying("msgpack", encoder.encode)

    def judge(value: Any) -> str | None:
        # By type first: the encoder accepts more types than readers give back; it would store a UUID as text.
        if not isinstance(value, _MSGPACK_TYPES):
            return f"object of type {type(value).__qualname__} cannot be encoded as msgpack"
        return out_of_range(value) if isinstance(value, int) else None

    def dumps(value: Any) -> bytes:
        problem = first_problem(value, "", judge, judge)
        if problem is not None:
            raise TypeError(problem)
        payload = encoder.encode(value)
        if len(payload) > _SURELY_SHALLOW:
            msgspec.msgpack.decode(payload)  # since Python 3.14, msgspec writes values too deep to be read
        return payload

    return Serializer(
        name="msgpack",
        text=False,
        dumps=dumps,
        loads=msgspec.msgpack.decode,
        judge=judge,
        judge_key=judge,
        supported=f"None, bool, int of 64 bits, float, str, bytes, list, tuple and dict; {_OTHERWISE}",
    )


def _yaml() -> Serializer:
    try:
        import yaml
    except ImportError as exc:
        raise SettingsError(
            "result_serializer 'yaml' needs the package PyYAML: pip install 'aioresult-backend[yaml]'"
        ) from exc

    def dumps(value: Any) -> bytes:
        text: str = yaml.safe_dump(value)
        return text.encode()

    class Loader(yaml.SafeLoader):
        """Refuses merge keys: no serializer writes them, and with them a few lines can exhaust the memory."""

        def flatten_mapping(self, node: Any) -> None:
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise ValueError("it uses YAML's merge keys")
            super().flatten_mapping(node)

    judge = _judge_by_trying("YAML", dumps, _is_dict_or_list)
    return Serializer(
        name="yaml",
        text=True,
        dumps=dumps,
        loads=partial(yaml.load, Loader=Loader),
        judge=judge,
        judge_key=_judge_by_trying("a key in YAML", dumps),
        supported=f"None, bool, int, float, str, bytes, list, tuple, dict, set, datetime and date; {_OTHERWISE}",
    )


def _pickle() -> Serializer:
    dumps = partial(pickle.dumps, protocol=pickles.PROTOCOL)
    return Serializer(
        name="pickle",
        text=False,
        dumps=dumps,
        loads=pickles.loads_trusted,
        judge=_judge_by_trying("pickle", dumps, _is_dict_or_list),
        judge_key=_judge_by_trying("a key in pickle", dumps),
        supported="everything that pickle supports",
    )


plain_pickle: Final = Serializer(
    name="pickle",
    text=False,
    dumps=pickles.dumps_plain,
    loads=pickles.loads_plain,
    judge=pickles.judge_plain,
    judge_key=pickles.judge_plain_key,
    supported="None, bool, int, float, str, bytes, list, tuple, dict, set, datetime, date, time, timedelta, Decimal "
    "and UUID",
)
"""Plain data only, for the SQL rows that Celery up to 5.6 reads."""


def make_serializer(name: str) -> Serializer:
    """Return the serializer of this name.

    Raises:
        SettingsError: its package is not installed.
    """
    return {"json": _json, "msgpack": _msgpack, "yaml": _yaml, "pickle": _pickle}[name]()
