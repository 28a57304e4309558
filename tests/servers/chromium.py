"""A real browser: Debian's Chromium without a window, driven by its own DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from websockets.sync.client import ClientConnection, connect

from tests.servers import guardian
from tests.servers.process import START_TIMEOUT, STOP_TIMEOUT, ServerFailed, missing

WAIT: Final = 60.0
FLAGS: Final = [
    "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--no-proxy-server", "--ignore-certificate-errors", "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows", "--remote-debugging-port=0",
]  # fmt: skip
_KEYS: Final = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, "")}
_UNTIL: Final = """
new Promise((resolve) => {
  const look = () => { const found = (%s); if (found) { watching.disconnect(); resolve(found); } };
  const watching = new MutationObserver(look);
  watching.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  look();
})
"""


class PageFailed(Exception):
    """Raised when the browser refuses a command, or a page's script throws."""


class Chromium:
    """One browser. A context manager.

    Raises:
        ServerFailed: it does not start. Where there is none, the test is skipped, and fails under ``CI``.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._stack = ExitStack()
        self._events: deque[dict[str, Any]] = deque(maxlen=10_000)

    def __enter__(self) -> Self:
        command = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if command is None:
            raise missing("no chromium is installed (on Debian: apt-get install chromium)")
        self._folder = Path(tempfile.mkdtemp(prefix="aioresult-chromium-"))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [command, *FLAGS, f"--user-data-dir={self._folder}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        guardian.protect(self._process.pid, self._folder)
        with ExitStack() as stack:
            stack.callback(self._end)
            self._connection = stack.enter_context(self._connect())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _connect(self) -> ClientConnection:
        """Connect to the port that the browser writes into a file as soon as it listens."""
        deadline = time.monotonic() + START_TIMEOUT
        told = self._folder / "DevToolsActivePort"
        while time.monotonic() < deadline and self._process.poll() is None:
            if told.is_file() and len(lines := told.read_text().splitlines()) == 2:
                url = f"ws://127.0.0.1:{lines[0]}{lines[1]}"
                return connect(url, max_size=None, compression=None, proxy=None, ping_interval=None, max_queue=None)
            time.sleep(0.02)
        raise ServerFailed(f"chromium does not start:\n{(self._folder / 'log').read_text()[-4000:]}")

    def _end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        guardian.release(self._process.pid)
        shutil.rmtree(self._folder, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Give a command and return the answer to it."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        self._connection.send(json.dumps(message))
        deadline = time.monotonic() + WAIT
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise PageFailed(f"{method}: {answer['error']}")
                found: dict[str, Any] = answer["result"]
                return found

    def event(self, method: str, session: str) -> dict[str, Any]:
        """Return the next event of this name, and forget those before it."""
        deadline = time.monotonic() + WAIT
        while True:
            event = self._events.popleft() if self._events else self._receive(deadline)
            if event.get("method") == method and event.get("sessionId") == session:
                return event

    def _receive(self, deadline: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(max(deadline - time.monotonic(), 0.0)))
        if message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            raise PageFailed(details.get("exception", details).get("description", details))
        if "id" not in message:
            self._events.append(message)
        return message

    def visitor(self) -> str:
        """Return somebody with cookies of their own, for ``page``."""
        context: str = self.send("Target.createBrowserContext")["browserContextId"]
        return context

    def forget(self, visitor: str) -> None:
        """Close the tabs of a visitor, and the connections that the browser keeps for later."""
        self.send("Target.disposeBrowserContext", browserContextId=visitor)

    def page(self, url: str, visitor: str | None = None) -> Page:
        """Open a page, as a tab of ``visitor``."""
        options = {} if visitor is None else {"browserContextId": visitor}
        target = self.send("Target.createTarget", url="about:blank", **options)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        page.go(url)
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        for domain in ("Page", "Runtime"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command for this page."""
        return self._browser.send(method, self._session, **params)

    def go(self, url: str) -> None:
        """Open an address and return when the page is loaded."""
        answer = self.send("Page.navigate", url=url)
        if failed := answer.get("errorText"):
            raise PageFailed(f"{url}: {failed}")
        self._loaded(lambda document: document == answer["loaderId"])

    def reload(self) -> None:
        """Load the page again."""
        before = self.send("Page.getFrameTree")["frameTree"]["frame"]["loaderId"]
        self.send("Page.reload")
        self._loaded(lambda document: document != before)

    def _loaded(self, wanted: Callable[[str], bool]) -> None:
        """Wait for the document that was asked for: the one before it, such as a new tab's empty one, may load late."""
        while True:
            event = self._browser.event("Page.lifecycleEvent", self._session)["params"]
            if event["name"] == "load" and event["frameId"] == self._target and wanted(event["loaderId"]):
                return

    def close(self) -> None:
        """Close the tab."""
        self._browser.send("Target.closeTarget", targetId=self._target)

    def run(self, script: str) -> Any:
        """Return the value of an expression; of a promise, what it is fulfilled with."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise PageFailed(answer["exceptionDetails"].get("exception", {}).get("description", answer))
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Return the value of an expression as soon as a change of the document makes it true."""
        try:
            return self.run(_UNTIL % expression)
        except TimeoutError:
            shown = self.run("location.href + '\\n' + document.body.innerText")
            raise PageFailed(f"this never came to {expression}:\n{shown}") from None

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key."""
        code, text = _KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def network(self, *, offline: bool) -> None:
        """Switch the network off, or on again."""
        self.send("Network.enable")
        self.send(
            "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1.0) -> None:
        """Give the page this size in pixels, and colours."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def roles(self) -> set[str]:
        """Return which roles there are for screen readers."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return {node["role"]["value"] for node in nodes if "role" in node and not node.get("ignored")}

    def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
