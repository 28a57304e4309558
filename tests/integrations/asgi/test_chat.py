"""The example chat in a real browser: reloaded, opened twice, stopped, offline, and with processes that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from aioresult import Backend
from tests.integrations.asgi.chatting import ROOT, Chat, Tab, expected
from tests.servers.chromium import Chromium
from tests.servers.process import HOST

Open = Callable[..., Tab]
AWAY = "The server does not answer"
# Connects again, and marks the page as soon as the connection is open.
CONNECT = """
window.EventSource = class extends EventSource {
  constructor(url) { super(url); this.addEventListener("open", () => { document.body.dataset.open = "yes"; }); }
};
dispatchEvent(new Event("online"));
"""


@pytest.fixture(scope="module")
def chat(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    with Chat(tmp_path_factory.mktemp("chat"), seconds_per_word=0.025) as chat:
        yield chat


@pytest.fixture
def tabs(chromium: Chromium, chat: Chat) -> Iterator[Open]:
    """Return a function that opens a conversation in a new tab."""
    opened: list[Tab] = []

    def open_tab(conversation: str | None = None) -> Tab:
        opened.append(Tab(chromium, chat, conversation))
        return opened[-1]

    yield open_tab
    for tab in opened:
        tab.close()


def test_words_arrive_and_the_bar_moves(tabs: Open) -> None:
    tab = tabs()
    tab.ask("Why?")
    few = tab.words(3)
    tab.page.until("document.querySelector('progress').value > 0")
    before = tab.bar()
    more = tab.words(len(few) + 10)
    assert more[: len(few)] == few
    assert tab.bar() > before
    assert {"log", "status", "progressbar", "textbox", "button"} <= tab.page.roles()
    assert tab.ended() == expected("Why?")
    assert tab.page.run("document.activeElement.id + document.querySelector('#text').value") == "text"


def test_the_first_address_begins_a_conversation(chromium: Chromium, chat: Chat) -> None:
    page = chromium.page(chat.url)
    assert str(page.run("location.pathname")).startswith("/c/")
    page.close()


def test_a_reload_in_the_middle_goes_on_without_a_hole_or_a_repeat(tabs: Open) -> None:
    tab = tabs()
    tab.ask("And then?")
    tab.words(10)
    tab.page.reload()
    assert tab.page.until("document.querySelector('progress')") is not None, "the answer still runs"
    tab.words(12)
    assert tab.ended() == expected("And then?")
    assert tab.page.run("document.querySelectorAll('article').length") == 1


def test_a_second_tab_shows_the_same(tabs: Open) -> None:
    first = tabs()
    first.ask("Who?")
    first.words(5)
    second = tabs(first.conversation)
    assert second.ended() == first.ended() == expected("Who?")
    second.ask("And who else?")
    first.page.until("document.querySelectorAll('article').length === 2")
    assert first.ended() == second.ended() == expected("And who else?")


@pytest.mark.parametrize("how", ["Escape", "the button"])
def test_stop_ends_the_answer_in_each_tab(tabs: Open, how: str) -> None:
    tab = tabs()
    tab.ask("How long?")
    tab.words(5)
    other = tabs(tab.conversation)
    other.words(5)
    if how == "Escape":
        tab.page.press("Escape")
    else:
        tab.page.run("document.querySelector('#stop').click()")
    for each in (tab, other):
        each.says("Stopped.", ".end")
        words = each.ended()
        assert len(words) < len(expected("How long?"))
        assert words == expected("How long?")[: len(words)]
    task_id = tab.question_ids()[0]["id"]
    assert tab.page.run(f"fetch('/results/{task_id}').then((answer) => answer.json())")["status"] == "REVOKED"
    assert tab.page.run("!document.querySelector('#send').hidden")


def test_a_page_that_was_offline_goes_on(tabs: Open) -> None:
    tab = tabs()
    tab.ask("Where?")
    tab.words(5)
    tab.page.network(offline=True)
    tab.says("You are offline")
    tab.page.network(offline=False)
    assert tab.ended() == expected("Where?")
    assert tab.page.run("document.querySelector('#status').textContent") == ""


def test_a_connection_that_opens_late_does_not_hide_that_the_page_is_offline(chat: Chat, tabs: Open) -> None:
    tab = tabs()
    web = chat.pid("web")
    os.kill(web, signal.SIGSTOP)
    try:
        tab.page.run(CONNECT)
        tab.page.network(offline=True)
        tab.says("You are offline")
    finally:
        os.kill(web, signal.SIGCONT)
    tab.page.until("document.body.dataset.open")
    assert "You are offline" in tab.page.run("document.querySelector('#status').textContent")


def test_a_question_that_is_sent_offline_is_kept(tabs: Open) -> None:
    tab = tabs()
    tab.page.network(offline=True)
    tab.says("You are offline")
    tab.ask("Does it get lost?")
    tab.says("Your question was not sent")
    tab.page.network(offline=False)
    tab.page.press("Enter")
    assert tab.ended() == expected("Does it get lost?")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["is told to end", "is killed"])
def test_a_web_server_is_started_again_in_the_middle(chat: Chat, tabs: Open, how: signal.Signals) -> None:
    tab = tabs()
    tab.ask("What now?")
    tab.words(5)
    os.kill(chat.pid("web"), how)
    tab.says(AWAY)
    assert tab.ended() == expected("What now?")
    tab.says("")


def test_a_worker_that_is_killed_is_told_in_words(chat: Chat, tabs: Open) -> None:
    tab = tabs()
    tab.ask("Are you well?")
    seen = tab.words(5)
    os.kill(chat.pid("worker"), signal.SIGKILL)
    tab.says("The worker that wrote this answer has died", ".end")
    words = tab.ended()
    assert len(seen) <= len(words) < len(expected("Are you well?"))
    assert words == expected("Are you well?")[: len(words)]
    tab.ask("Are you well again?")
    tab.page.until("document.querySelectorAll('article').length === 2")
    assert tab.ended() == expected("Are you well again?")


def test_an_answer_that_fails_is_told_in_words(tabs: Open) -> None:
    tab = tabs()
    tab.ask("Can you fail?")
    tab.says("The answer has failed: the question asks for a failure", ".end")


def test_a_conversation_that_is_gone_is_told_in_words(chat: Chat, tabs: Open) -> None:
    tab = tabs()
    tab.ask("Still there?")
    tab.ended()

    async def forget() -> None:
        async with Backend(chat.store) as backend:
            await backend.AsyncResult(tab.conversation).forget()

    asyncio.run(forget())
    os.kill(chat.pid("web"), signal.SIGKILL)
    tab.says("This conversation is not stored any more")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280], ids=["phone", "desktop"])
def test_the_page_fits_each_size_and_both_colours(chat: Chat, tabs: Open, width: int, dark: bool) -> None:
    tab = tabs()
    tab.page.look(width, 640, dark=dark)
    tab.ask("Does" + "a" * 300 + " fit?")
    tab.words(20)
    assert tab.page.run("document.documentElement.scrollWidth") <= width
    assert tab.page.run("document.documentElement.scrollHeight") <= 640
    red, *_ = tab.page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red < 128) == dark
    tab.page.press("Tab")
    assert tab.page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.page.press("Escape")
    tab.says("Stopped.", ".end")


def test_a_port_that_is_in_use_is_told_in_a_line() -> None:
    with socket.create_server((HOST, 0)) as taken:
        command = [sys.executable, "-m", "examples.chat", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("web does not run\n")
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr
