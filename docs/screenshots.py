"""Pictures by Chromium: ``python docs/screenshots.py`` makes those of pages; with a folder, looks at the built site.

The first runs the tutorial as it is written, with a worker and a web server, and draws its page in the middle of an
answer; then it runs the example chat, and draws that on a desktop and on a phone. The second (``python
docs/screenshots.py pictures``) draws pages of ``site/`` at three sizes, light and dark, for a person who looks at them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.integrations.asgi.chatting import Chat, Tab  # noqa: E402  (of the checkout, wherever this is started)
from tests.project.pages.parsing import blocks  # noqa: E402
from tests.servers.chromium import Chromium  # noqa: E402
from tests.servers.process import free_port  # noqa: E402

PICTURE: Final = ROOT / "docs" / "static" / "tutorial.png"
SIZES: Final = {"phone": (360, 740), "tablet": (768, 1024), "desktop": (1280, 900)}
PAGES: Final = (
    "index tutorial howto/index howto/celery howto/streams howto/troubleshooting reference/settings reference/results "
    "explanation/comparison search 404"
).split()


def draw_tutorial() -> None:
    """Run the tutorial and draw its page."""
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks(ROOT / "docs" / "tutorial.md"):
            if block.kind == "file":
                Path(folder, block.about).write_text(block.text)
        port = free_port()
        worker = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "1"]
        server = [sys.executable, "-m", "uvicorn", "web:web", "--port", str(port)]
        with running(worker, folder), running(server, folder), Chromium() as browser:
            wait_for(f"http://127.0.0.1:{port}/docs")
            page = browser.page(f"http://127.0.0.1:{port}/")
            page.look(640, 310)
            page.run("document.querySelector('form').requestSubmit()")
            page.until("document.querySelector('progress').value >= 7")
            PICTURE.write_bytes(page.picture())


def draw_chat() -> None:
    """Run the example chat and draw its page: light on a desktop, dark on a phone, each in the middle of an answer."""
    with tempfile.TemporaryDirectory() as folder, Chromium() as browser, Chat(Path(folder), 0.05) as chat:
        desktop = Tab(browser, chat)
        desktop.page.look(900, 560)
        desktop.ask("Are you there?")
        desktop.words(4)
        desktop.page.press("Escape")
        desktop.ended()
        desktop.ask("How do these words get here?")
        phone = Tab(browser, chat, desktop.conversation)
        phone.page.look(390, 700, dark=True)
        phone.page.until("document.querySelectorAll('article').length === 2")
        for tab, name in ((phone, "chat-dark"), (desktop, "chat-light")):
            tab.words(60)
            (ROOT / "docs" / "static" / f"{name}.png").write_bytes(tab.page.picture())


@contextlib.contextmanager
def running(command: list[str], folder: str) -> Iterator[None]:
    """Run a command in a folder for as long as the block takes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    """Wait until something answers, for a minute at most."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url).close()
            return
        time.sleep(0.05)
    raise TimeoutError(f"{url} does not answer")


def draw_site(folder: Path) -> None:
    """Draw pages of the built site at each size, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with Chromium() as browser:
        for name in PAGES:
            page = browser.page((ROOT / "site" / f"{name}.html").as_uri())
            for size, (width, height) in SIZES.items():
                for dark in (False, True):
                    page.look(width, height, dark=dark)
                    picture = folder / f"{name.replace('/', '-')}-{size}-{'dark' if dark else 'light'}.png"
                    picture.write_bytes(page.picture())
            page.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        draw_site(Path(sys.argv[1]))
    else:
        draw_tutorial()
        draw_chat()
