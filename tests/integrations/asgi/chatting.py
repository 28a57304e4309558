"""The example chat as a process of its own, and what its page shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx

from examples.chat.worker import ANSWER
from tests.servers import guardian
from tests.servers.chromium import Chromium, Page
from tests.servers.process import HOST, START_TIMEOUT, STOP_TIMEOUT, ServerFailed, free_port

ROOT = Path(__file__).parents[3]


def expected(question: str) -> list[str]:
    """Return the words of the whole answer."""
    return ANSWER.format(question=question).split()


class Chat:
    """The example, started by its one command.

    Args:
        folder: where it keeps its log and its store.
        seconds_per_word: how fast it talks.
    """

    def __init__(self, folder: Path, seconds_per_word: float) -> None:
        self.store = f"sqlite:///{folder / 'chat.db'}"
        self.url = f"http://{HOST}:{(port := free_port())}"
        self._log = folder / "log"
        self._folder = folder
        self._command = [sys.executable, "-m", "examples.chat", "--port", str(port)]
        self._environment = {**os.environ, "AIORESULT_URL": self.store, "SECONDS_PER_WORD": str(seconds_per_word)}

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        guardian.protect(self._process.pid, self._folder)
        self.answers()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End it as an operator would; the two processes that it has started end with it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            assert self._process.wait(STOP_TIMEOUT) == 0, self.log
        finally:
            guardian.release(self._process.pid)
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                left = False
            else:
                left = True
        assert not left, f"a process has outlived the command:\n{self.log}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def pid(self, name: str) -> int:
        """Return the id of the web server's or the worker's present process."""
        return int(re.findall(rf"^{name}: process (\d+)", self.log, re.MULTILINE)[-1])

    def answers(self) -> None:
        """Return when the web server answers."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.get(self.url, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise ServerFailed(f"the example does not answer:\n{self.log}")


class Tab:
    """A tab that shows a conversation."""

    def __init__(self, browser: Chromium, chat: Chat, conversation: str | None = None) -> None:
        self._chat = chat
        self.conversation = conversation or str(uuid4())
        self.page: Page = browser.page(f"{chat.url}/c/{self.conversation}")

    def ask(self, question: str) -> None:
        """Ask as one does by keyboard: the field has the focus, Enter sends."""
        self.page.type(question)
        self.page.press("Enter")

    def words(self, least: int) -> list[str]:
        """Wait until the last answer has this many words, and return them."""
        words = "[...document.querySelectorAll('.answer')].at(-1)?.textContent.trim().split(/\\s+/)"
        self.page.until(f"({words})?.length >= {least}")
        found: list[str] = self.page.run(words)
        return found

    def ended(self) -> list[str]:
        """Wait until the last answer has ended, and return its words."""
        self.page.until("document.querySelector('article') && !document.querySelector('progress')")
        return self.words(1)

    def says(self, words: str, where: str = "#status") -> None:
        """Wait until the page says something."""
        text = f"[...document.querySelectorAll('{where}')].at(-1)?.textContent"
        self.page.until(f"({text})?.includes({json.dumps(words)})")

    def bar(self) -> float:
        """Return how far the progress bar is."""
        return float(self.page.run("document.querySelector('progress').value"))

    def question_ids(self) -> list[dict[str, Any]]:
        """Return the questions of the conversation, as they are stored."""
        script = f"""new Promise((resolve) => {{
          const found = [], source = new EventSource("/results/{self.conversation}/events");
          const count = document.querySelectorAll("article").length;
          source.addEventListener("item", (event) => {{
            if (found.push(JSON.parse(event.data)) === count) {{ source.close(); resolve(found); }}
          }});
        }})"""
        found: list[dict[str, Any]] = self.page.run(script)
        return found

    def close(self) -> None:
        self.page.close()
