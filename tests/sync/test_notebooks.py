"""Cells of a notebook: they run inside their kernel's event loop, and may block it. What they start there may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.blocking import PATIENCE

RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)])
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
for cell in notebook.cells:
    print(json.dumps("".join(output.get("text", "") for output in cell.outputs)))
"""


def outputs_of(*cells: str) -> list[str]:
    """Run ``cells`` as a notebook of a real kernel, and return what each one prints; fail if one raises."""
    finished = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(cells),
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_a_cell_may_block_and_await_but_what_it_starts_in_the_background_may_not_block(redis_url: str) -> None:
    blocking, helper, awaiting, both, background, callback, worker = outputs_of(
        f"""
from aioresult import WouldBlockLoop, AsyncResult as Awaited
from aioresult.sync import AsyncResult, configure
backend = configure({redis_url!r})
backend.mark_as_done("t", "blocked")
print(AsyncResult("t").get(timeout=30))
""",
        """
def helper():
    return [record.status for record in AsyncResult("t").updates(timeout=30)]
print(helper())
""",
        "print(await Awaited('t'))",
        """
backend.mark_as_done("u", "both")
print(await Awaited("u", backend.mirrored) == AsyncResult("u").get(timeout=30))
""",
        """
import asyncio
async def handler():  # as of a server that runs in the background
    await asyncio.sleep(0)
    try:
        return AsyncResult("t").get(timeout=30)
    except WouldBlockLoop:
        return "refused"
task = asyncio.create_task(handler())
print(await task)
""",
        """
called = asyncio.get_running_loop().create_future()
def callback():
    try:
        called.set_result(AsyncResult("t").status)
    except WouldBlockLoop:
        called.set_result("refused")
asyncio.get_running_loop().call_soon(callback)
print(await called)
""",
        """
print(await asyncio.to_thread(AsyncResult("t").get, timeout=30))
""",
    )
    assert (blocking, helper, awaiting, both) == ("blocked\n", "['SUCCESS']\n", "blocked\n", "True\n")
    assert (background, callback, worker) == ("refused\n", "refused\n", "blocked\n")
