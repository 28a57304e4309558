"""Values to payloads and back, by one backend's settings: serializer, compression, limits, and their errors."""

from __future__ import annotations

from typing import Any

from aioresult.codec import failures, hints, pickles
from aioresult.codec.compression import decompress, make_compressor
from aioresult.codec.paths import first_problem
from aioresult.codec.serializers import make_serializer, plain_pickle
from aioresult.errors import DecodeError, EncodeError, ResultTooLarge
from aioresult.record import Record
from aioresult.settings import SERIALIZERS, Settings

Payload = bytes | bytearray | memoryview | str
"""What drivers return for a stored value."""


class Payloads:
    """The common part of encoding everything that is stored."""

    def __init__(self, settings: Settings) -> None:
        self._serializer = make_serializer(SERIALIZERS[settings.result_serializer])
        self._accepted = self._serializer.name in settings.accepted
        self._compress = make_compressor(settings.result_compression)
        self._max_decompressed = settings.max_decompressed_bytes
        self._limit = settings.max_result_bytes

    def _dumps(self, name: str, value: Any, what: str, *, compress: bool, legacy_pickle: bool) -> bytes:
        serializer = plain_pickle if legacy_pickle else self._serializer
        try:
            payload = serializer.dumps(value)
        except Exception as exc:  # encoding calls code of the value, which may raise anything
            raise self._refusal(what, {name: value}, exc, legacy_pickle=legacy_pickle) from exc
        return self._compress(payload) if compress else payload

    def _refusal(
        self, what: str, fields: dict[str, Any], cause: Exception, *, legacy_pickle: bool = False
    ) -> EncodeError:
        """Return the error for a value that the serializer refused, naming the part that it refused."""
        serializer = plain_pickle if legacy_pickle else self._serializer
        found = (first_problem(value, name, serializer.judge, serializer.judge_key) for name, value in fields.items())
        problem = next(filter(None, found), None) or f"{hints.reason(cause)} ({type(cause).__name__})"
        return EncodeError(f"{what}: {problem}; supported are {serializer.supported}; nothing was stored")

    def _loads(self, payload: Payload, what: str, *, legacy_pickle: bool = False, failed: bool = False) -> Any:
        serializer = self._serializer
        raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
        try:
            data = decompress(raw, self._max_decompressed)
            if not self._accepted:
                raise ValueError(f"{serializer.name} is not accepted; name it in accept_content")
            if serializer.name == "pickle":
                return pickles.loads_trusted(data, failure=failed)
            if legacy_pickle and pickles.looks_like_pickle(data):
                return pickles.loads_plain(data, failure=failed)
            return serializer.loads(data)
        except Exception as exc:  # each serializer has its own errors, and unpickling runs any code
            raise DecodeError(f"{what} cannot be read: {hints.reason(exc)}{hints.hint(raw, serializer.name)}") from exc

    def _storable(self, record: Record, *, legacy_pickle: bool = False) -> Record:
        if legacy_pickle:
            return failures.storable(record, pickles.dumps_plain, as_object=False)
        return failures.storable(record, self._serializer.dumps, as_object=self._serializer.name == "pickle")

    def _checked_size(self, payload: bytes, what: str) -> bytes:
        if self._limit is not None and len(payload) > self._limit:
            raise ResultTooLarge(
                f"{what} takes {len(payload)} bytes, more than max_result_bytes={self._limit}; "
                f"nothing was stored; store it elsewhere and keep a reference to it here, or raise max_result_bytes"
            )
        return payload
