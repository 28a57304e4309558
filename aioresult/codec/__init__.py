"""Values and records to bytes and back, in Celery's formats. (Skeleton: signatures are fixed, bodies to be written.)"""

from __future__ import annotations

from typing import Any

from aioresult.record import Record, ResultTree
from aioresult.settings import Settings


class Codec:
    """Encodes and decodes by one backend's settings; stateless after construction, usable from any thread."""

    def __init__(self, settings: Settings) -> None: ...

    def encode_record(self, record: Record) -> bytes:
        """Whole record as Celery's key-value stores hold it (byte for byte what Celery 5.7 writes), compressed if so set.

        A result that is ``Encoded`` already is returned as it is. Raises EncodeError (with the path inside the value), ResultTooLarge.
        """
        raise NotImplementedError

    def decode_record(self, task_id: str, payload: bytes) -> Record:
        """Inverse; total: anything unreadable gives ``Record.undecodable(task_id, DecodeError)``."""
        raise NotImplementedError

    def encode_result(self, record: Record, *, compress: bool = True) -> bytes:
        """The result alone, as Celery's document and SQL stores hold it (exceptions in Celery's form; SQL never compresses)."""
        raise NotImplementedError

    def decode_result(self, task_id: str, status: str, payload: bytes | str, *, traceback: str | None = None) -> Any:
        """Inverse of ``encode_result``; for EXCEPTION_STATES an exception instance. Raises DecodeError."""
        raise NotImplementedError

    def encode_value(self, value: Any, what: str) -> bytes:
        """A plain value (children, args, kwargs, stamps, a group's tree) by the serializer; ``what`` names it in errors."""
        raise NotImplementedError

    def decode_value(self, payload: bytes | str, what: str) -> Any:
        """Inverse of ``encode_value``. Raises DecodeError."""
        raise NotImplementedError

    def encode_group(self, tree: ResultTree) -> bytes:
        """``{"result": tree}`` as Celery's key-value stores hold a saved group."""
        raise NotImplementedError

    def decode_group(self, group_id: str, payload: bytes) -> ResultTree:
        """Inverse. Raises DecodeError."""
        raise NotImplementedError
