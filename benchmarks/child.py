"""The process of one contestant: requests on standard input, answers on standard output, one JSON object a line.

Run as ``python -m benchmarks.child KIND URL OPTIONS PIPE``; ``PIPE`` is the number of a file descriptor through which a
consumer tells its producer that it is about to wait, or -1.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import traceback

from benchmarks import serving, stopping, streaming  # noqa: F401  (their operations)
from benchmarks.contestants import make
from benchmarks.roles import OPERATIONS, Role


async def serve(kind: str, url: str, options: str, pipe: str) -> None:
    """Answer requests until standard input ends."""
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    contestant = make(kind, url, json.loads(options))
    await contestant.open()
    role = Role(contestant, int(pipe))
    gc.collect()
    gc.freeze()  # imported objects must not cost the contestants time
    _answer({"ready": True})
    try:
        while line := await requests.readline():
            request = json.loads(line)
            _answer(await _perform(role, request.pop("op"), request))
    finally:
        await contestant.close()


async def _perform(role: Role, operation: str, arguments: dict[str, object]) -> dict[str, object]:
    try:
        return {"reply": await OPERATIONS[operation](role, **arguments)}
    except Exception:  # noqa: BLE001  (it is reported to the parent process, which fails the run)
        return {"error": traceback.format_exc()}


def _answer(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
