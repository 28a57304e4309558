"""A store of one's own: a directory with a file for each result, shared by all processes that can see it.

It takes a subclass of ``Store`` with three methods. An entry point (``pyproject.toml``) makes the scheme known::

    [project.entry-points."aioresult.stores"]
    directory = "my_package:DirectoryStore"

and then ``aioresult.configure("directory:///var/results")`` works. It cannot notify, so aioresult polls it: one read
for all waiters. The suite ``aioresult.testing.StoreTests`` says whether it keeps what a store promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

from aioresult.abc import Capabilities, Store
from aioresult.errors import SettingsError, StoreUnavailable
from aioresult.record import Record
from aioresult.settings import Settings
from aioresult.states import replaces

T = TypeVar("T")


class DirectoryStore(Store):
    """Keeps each record in a file, in the encoding that Celery's own filesystem backend uses.

    A file's modification time is when it expires. File operations block, so they are done in a thread.
    """

    loop_bound: ClassVar[bool] = False
    needs_purge: ClassVar[bool] = True

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc or not path:  # directory://var/results would be /results, on a host called var
            raise SettingsError("the URL of a directory has a path and no host: directory:///var/results")
        self._folder = Path(path)
        self.location = f"directory://{path}"

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        payloads = await self._in_thread(lambda: {task_id: self._read(task_id) for task_id in ids})
        return {
            task_id: self.codec.decode_record(task_id, payload)
            for task_id, payload in payloads.items()
            if payload is not None
        }

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        payloads = [self.codec.encode_record(record) for record in records]

        def write() -> list[bool]:
            with self._lock():
                return [self._write(record, payload) for record, payload in zip(records, payloads, strict=True)]

        return await self._in_thread(write)

    async def delete_many(self, ids: Sequence[str]) -> None:
        def delete() -> None:
            for task_id in ids:
                self._path(task_id).unlink(missing_ok=True)

        await self._in_thread(delete)

    async def purge(self) -> int:
        def purge() -> int:
            with self._lock():
                return sum(map(self._remove_expired, self._folder.glob("*.result")))

        return await self._in_thread(purge)

    async def capabilities(self) -> Capabilities:
        return Capabilities(push=False, mechanism="polling", reason="a directory does not notify in a portable way")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self.commands += 1
        try:
            return await asyncio.to_thread(work)
        except OSError as exc:
            raise StoreUnavailable(f"{self.location} is unavailable: {exc.strerror}") from exc

    # --- in the thread ---

    def _path(self, task_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(task_id.encode()).hexdigest()}.result"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one writer at a time look and then write, among all processes: states must never go backwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self, task_id: str) -> bytes | None:
        try:
            path = self._path(task_id)
            return path.read_bytes() if path.stat().st_mtime > time.time() else None
        except FileNotFoundError:
            return None

    def _remove_expired(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):  # somebody forgot it meanwhile, which takes no lock
            if path.stat().st_mtime <= time.time():
                path.unlink()
                return True
        return False

    def _write(self, record: Record, payload: bytes) -> bool:
        old = self._read(record.id)
        if old is not None and not replaces(record.status, self.codec.decode_record(record.id, old).status):
            return old == payload  # written already, by a caller who did not get to know
        path = self._path(record.id)
        draft = path.with_suffix(".draft")
        draft.write_bytes(payload)
        ttl = self.settings.expires_for(record.status)
        expires_at = time.time() + (ttl if ttl is not None else 100 * 365 * 86400)
        os.utime(draft, (expires_at, expires_at))
        draft.replace(path)  # readers see the old file or the new one, whole
        return True
