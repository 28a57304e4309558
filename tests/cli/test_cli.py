"""The command line: what it prints, how it ends, and what it never shows."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from aioresult import Backend as AsyncBackend
from aioresult import Record
from aioresult.cli import snapshot
from aioresult.cli.exits import MEANINGS, Exit, exit_for, worst
from aioresult.errors import DecodeError, EncodeError, SettingsError, StoreUnavailable, Unsupported
from aioresult.sync import Backend
from aioresult.testing import FaultyStore
from tests.blocking import PATIENCE, eventually
from tests.cli.commandline import COMMAND, aioresult, end, environment, start
from tests.servers import RedisServer
from tests.servers.process import HOST, free_port

NOBODY = "0.05"
"""Seconds to wait for what never comes."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/results.db"


@pytest.fixture
def backend(url: str) -> Iterator[Backend]:
    """The same store, seen from the test."""
    with Backend(url) as backend:
        yield backend


def assert_one_line(err: str) -> None:
    assert len(err.splitlines()) == 1
    assert err.startswith("aioresult: ")


# --- get, store, forget, purge ----------------------------------------------------------------------------------------


def test_what_is_stored_is_got_back(url: str, backend: Backend) -> None:
    assert aioresult("store", "t", "--result", '{"x": [1, "two"]}', url=url) == (0, "t SUCCESS\n", "")
    assert backend.fetch("t").result == {"x": [1, "two"]}
    assert aioresult("get", "t", url=url) == (0, '{"x":[1,"two"]}\n', "")
    assert aioresult("store", "s", "--result", "-", url=url, stdin='"plain text"').code == 0
    assert aioresult("get", "s", "--url", url) == (0, "plain text\n", "")


def test_standard_input_is_read_as_json_is_written_whatever_the_locale_says(
    url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")  # which an interpreter obeys when it starts
    command = [*COMMAND, "store", "t", "--result", "-"]
    subprocess.run(command, env=environment(url), input=b'"h\xc3\xa9"', check=True)
    assert backend.fetch("t").result == "h\u00e9"


@pytest.mark.parametrize(("given", "said"), [("\udcff", "is not UTF-8"), ("", "is not JSON")])
def test_standard_input_that_is_no_json_is_wrong_usage(given: str, said: str) -> None:
    ended = aioresult("store", "t", "--result", "-", url="memory://", stdin=given)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert said in ended.err
    assert_one_line(ended.err)


def test_a_state_that_is_no_text_is_wrong_usage() -> None:
    ended = aioresult("store", "t", "--state", "\udcff", "--json", url="memory://")
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "state is not UTF-8" in ended.err
    assert_one_line(ended.err)


def test_get_waits_for_what_another_process_stores(redis_url: str) -> None:
    waiting = start("get", "t", "--timeout", str(PATIENCE), url=redis_url)
    with Backend(redis_url) as backend:
        assert backend.mark_as_done("t", 42)
    assert end(waiting) == (0, "42\n", "")


def test_a_failed_and_a_revoked_task_end_with_their_own_code_and_reason(url: str, backend: Backend) -> None:
    backend.mark_as_failure("f", ValueError("boom"), "Traceback of the worker\n")
    backend.mark_as_revoked("r", "terminated")
    assert aioresult("get", "f", url=url) == (1, "", "aioresult: task 'f' is FAILURE: ValueError: boom\n")
    assert aioresult("get", "r", url=url) == (1, "", "aioresult: task 'r' is REVOKED: terminated\n")
    verbose = aioresult("get", "f", "-v", url=url)
    assert "Traceback of the worker" in verbose.err
    assert verbose.out == ""


def test_several_tasks_are_printed_in_the_order_given_with_the_most_serious_code(url: str, backend: Backend) -> None:
    backend.mark_as_failure("f", ValueError("boom"))
    backend.mark_as_done("d", None)
    backend.update_state("p", "PROGRESS", {"current": 3, "total": 10})
    ended = aioresult("get", "p", "f", "d", "--timeout", NOBODY, url=url)
    assert ended.code == Exit.FAILED
    assert ended.out == "p PROGRESS 3/10\nf FAILURE ValueError: boom\nd SUCCESS null\n"
    assert len(ended.err.splitlines()) == 2
    late = aioresult("get", "p", "d", "--timeout", NOBODY, url=url)
    assert late.code == Exit.TIMEOUT
    assert "'p' was not final within 0.05 s; its state is PROGRESS" in late.err


def test_json_shows_records_with_celerys_names(redis_url: str) -> None:
    with Backend(redis_url) as backend:
        backend.store_result("d", {"when": datetime(2024, 2, 29, tzinfo=UTC)}, "SUCCESS", children=[], parent_id="p")
        backend.mark_as_failure("f", KeyError("missing", 1), "the traceback")
    done, failed = aioresult("get", "d", "f", "--json", url=redis_url).objects
    assert (done["id"], done["status"], done["ready"], done["children"], done["parent_id"]) == (
        "d", "SUCCESS", True, [], "p",
    )  # fmt: skip
    assert done["result"] == {"when": "2024-02-29T00:00:00Z"}
    assert datetime.fromisoformat(done["date_done"]).tzinfo is not None
    assert failed["result"] == {"exc_type": "KeyError", "exc_message": ["missing", 1], "exc_module": "builtins"}
    assert failed["traceback"] == "the traceback"
    late = aioresult("get", "never", "--timeout", "0", "--json", url=redis_url)
    assert (late.code, late.objects[0]["status"], late.objects[0]["ready"]) == (Exit.TIMEOUT, "PENDING", False)


def test_failures_are_stored_as_exceptions(url: str, backend: Backend) -> None:
    form = json.dumps({"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"})
    assert aioresult("store", "f", "--state", "FAILURE", "--result", form, url=url).code == 0
    assert aioresult("store", "m", "--state", "FAILURE", "--result", '"text"', "--traceback", "tb", url=url).code == 0
    error, message = backend.fetch("f").result, backend.fetch("m")
    assert (type(error), error.args) == (ValueError, ("boom",))
    assert (type(message.result), message.result.args, message.traceback) == (Exception, ("text",), "tb")


def test_what_may_not_be_replaced_stays_and_that_is_said(url: str, backend: Backend) -> None:
    backend.mark_as_done("t", 1)
    ended = aioresult("store", "t", "--state", "PROGRESS", "--json", url=url)
    assert ended.code == Exit.REFUSED
    assert ended.objects == [{"id": "t", "status": "PROGRESS", "written": False}]
    assert "has ended already, as SUCCESS" in ended.err


def test_settings_are_given_by_name(url: str, backend: Backend) -> None:
    ended = aioresult("store", "t", "--set", "max_result_bytes=10", "--result", '"a long text"', url=url)
    assert ended.code == Exit.REFUSED
    assert "max_result_bytes=10" in ended.err
    assert aioresult("store", "t", "--set", "result_serializer=msgpack", "--result", "1", url=url).code == 0
    assert aioresult("get", "t", "--set", "result_serializer=msgpack", url=url).out == "1\n"
    unreadable = aioresult("get", "t", "--json", url=url)
    assert unreadable.code == Exit.UNREADABLE
    assert unreadable.objects[0]["error"] in unreadable.err
    assert_one_line(unreadable.err)
    for timeout in ([], ["--timeout", "0"], ["--timeout", "1e-9"]):
        watched = aioresult("watch", "t", "--json", *timeout, url=url)
        assert (watched.code, watched.objects) == (Exit.UNREADABLE, unreadable.objects)


def test_forget_and_purge_delete(url: str, backend: Backend) -> None:
    for task_id in ("a", "b", "c"):
        backend.mark_as_done(task_id, 1)
    assert aioresult("forget", "a", "b", "unknown", "--json", url=url).objects == [
        {"id": task_id, "forgotten": True} for task_id in ("a", "b", "unknown")
    ]
    assert list(backend.fetch_many(["a", "b", "c"])) == ["c"]
    assert aioresult("purge", url=url) == (0, "0 expired results deleted\n", "")
    with Backend(url, result_expires=0.001) as brief:
        assert brief.fetch("c").status == "SUCCESS", "what has expired is there until it is deleted"
    assert aioresult("purge", "--set", "result_expires=0.001", "--json", url=url).objects == [{"purged": 1}]


def test_revoke_says_what_happened(url: str, backend: Backend) -> None:
    assert aioresult("revoke", "t", "--reason", "enough", url=url) == (0, "t REVOKED\n", "")
    assert str(backend.fetch("t").result) == "enough"
    ended = aioresult("revoke", "t", url=url)
    assert (ended.code, ended.out) == (Exit.REFUSED, "")
    assert "task 't' was not revoked, since it is final already: REVOKED" in ended.err
    assert_one_line(ended.err)
    backend.mark_as_done("s", 1)
    assert aioresult("revoke", "s", "--json", url=url).objects == [{"id": "s", "status": "SUCCESS", "revoked": False}]
    assert aioresult("revoke", "u", "--json", url=url).objects == [{"id": "u", "status": "REVOKED", "revoked": True}]


# --- wait and watch ---------------------------------------------------------------------------------------------------


def test_wait_prints_each_as_it_becomes_final(redis_url: str) -> None:
    waiting = start("wait", "one", "two", "--timeout", str(PATIENCE), url=redis_url)
    assert waiting.stdout is not None
    with Backend(redis_url) as backend:
        backend.mark_as_done("two", 2)
        assert waiting.stdout.readline() == "two SUCCESS\n"
        backend.mark_as_done("one", 1)
    assert end(waiting) == (0, "one SUCCESS\n", "")


def test_wait_any_returns_with_the_first(url: str, backend: Backend) -> None:
    backend.mark_as_done("t", 1)
    assert aioresult("wait", "never", "t", "--any", url=url) == (0, "t SUCCESS\n", "")
    assert aioresult("wait", "never", "t", "--timeout", NOBODY, url=url).code == Exit.TIMEOUT


def test_watch_prints_a_line_for_each_change(redis_url: str) -> None:
    watching = start("watch", "t", "--timeout", str(PATIENCE), url=redis_url)
    assert watching.stdout is not None
    with Backend(redis_url) as backend:
        backend.update_state("t", "PROGRESS", {"current": 1, "total": 4})
        assert watching.stdout.readline().endswith(" t PROGRESS 1/4\n")
        backend.mark_as_done("t", "finished")
    ended = end(watching)
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d t SUCCESS finished\n", ended.out)


def test_watch_in_json_prints_a_record_for_each_change(url: str, backend: Backend) -> None:
    backend.update_state("p", "PROGRESS", {"current": 1})
    backend.mark_as_done("d", 1)
    ended = aioresult("watch", "p", "d", "--timeout", NOBODY, "--json", url=url)
    assert ended.code == Exit.TIMEOUT
    assert sorted((record["id"], record["status"]) for record in ended.objects) == [("d", "SUCCESS"), ("p", "PROGRESS")]


def in_a_terminal(*arguments: str, url: str) -> str:
    """Run the command in a terminal of 80 columns and return what it draws."""
    parent, child = pty.openpty()
    with subprocess.Popen([*COMMAND, *arguments], env={**environment(url), "TERM": "xterm"}, stdout=child) as process:
        os.close(child)
        drawn = bytearray()
        try:
            while part := os.read(parent, 4096):
                drawn += part
        except OSError:  # the terminal's other end is closed
            pass
        finally:
            os.close(parent)
        assert process.wait(PATIENCE) in (0, Exit.FAILED)
    return drawn.decode()


def test_watch_draws_a_live_table_on_a_terminal(url: str, backend: Backend) -> None:
    backend.mark_as_done("[bold]a:key:1[/]", 1)
    backend.mark_as_failure("failed", ValueError("boom"))
    drawn = in_a_terminal("watch", "[bold]a:key:1[/]", "failed", url=url)
    assert "\x1b[" in drawn
    assert "[bold]a:key:1[/]" in drawn  # an id is text, neither markup nor the picture of a key
    assert "2 of 2 final" in drawn
    assert "boom" in drawn


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get"], "Missing argument"),
        (["nonsense"], "nonsense"),
        (["get", "t", "--nonsense"], "--nonsense"),
        (["get", "t", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["get", "t", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["get", "t", "--timeout", "-1"], "'-1' is not a number of seconds"),
        (["get", ""], "non-empty string"),
        (["get", "t", "--set", "result_expire=1"], "did you mean 'result_expires'?"),
        (["get", "t", "--set", "result_expires"], "NAME=VALUE"),
        (["get", "t", "--url", "nonsense://host"], "no store for URLs that begin with 'nonsense://'"),
        (["store", "t", "--result", "{"], "is not JSON"),
        (["store", "t", "--state", "success"], "write 'SUCCESS'"),
        (["store", "t", "--result", "\udcff"], "is not UTF-8"),
        (["demo", "--tasks", "0"], "--tasks"),
        (["demo", "--url", "memory://"], "memory:// is within one process"),
        (["sql"], "Missing command"),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments: list[str], said: str) -> None:
    ended = aioresult(*arguments, url="memory://")
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert said in ended.err
    assert_one_line(ended.err)


def test_without_a_store_or_a_command_it_says_what_to_do() -> None:
    ended = aioresult("get", "t")
    assert ended.code == Exit.USAGE
    assert "--url" in ended.err
    assert "AIORESULT_URL" in ended.err
    nothing = aioresult()
    assert nothing.code == Exit.USAGE
    assert "Usage: aioresult" in nothing.out


@pytest.mark.parametrize(
    "command",
    [["get", "t"], ["wait", "t"], ["watch", "t"], ["store", "t"], ["revoke", "t"], ["forget", "t"], ["purge"]],
)
def test_a_store_that_is_away_is_named_without_its_password(command: list[str]) -> None:
    port = free_port()
    ended = aioresult(*command, "-vv", "--json", url=f"redis://user:s3cret@127.0.0.1:{port}/0")
    said = [line for line in ended.err.splitlines() if line.startswith("aioresult: ")]
    if command == ["purge"]:  # Redis expires by itself: nothing to ask it for
        assert ended.code == 0
    else:
        assert (ended.code, ended.out, len(said)) == (Exit.UNAVAILABLE, "", 1)
        assert f"127.0.0.1:{port}" in said[0]
    assert "s3cret" not in ended.err
    assert "Traceback" not in ended.err


async def test_the_snapshot_after_a_timeout_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class SilentStore(FaultyStore):
        async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
            return await asyncio.Future()

    monkeypatch.setattr(snapshot, "_TIMEOUT", 0.01)
    async with AsyncBackend(SilentStore()) as backend:
        with pytest.raises(StoreUnavailable, match=r"memory:// has not replied within 0\.01 s"):
            await snapshot.snapshot(backend, ["t"])


@pytest.mark.parametrize("command", ["get", "wait", "watch"])
def test_ctrl_c_ends_it_quietly(command: str, redis_url: str) -> None:
    waiting = start(command, "t", url=redis_url)
    with Backend(redis_url) as backend:
        with redis.Redis.from_url(redis_url) as client:
            eventually(lambda: client.pubsub_numsub("celery-task-meta-t")[0][1] == 1)
        waiting.send_signal(signal.SIGINT)
        assert end(waiting) == (Exit.INTERRUPTED, "", "")
        assert backend.fetch("t").status == "PENDING"


def test_a_reader_that_has_gone_is_no_error(url: str, backend: Backend) -> None:
    for number in range(3):
        backend.mark_as_done(str(number), "x" * 100_000)  # more than a pipe holds
    with subprocess.Popen(
        [*COMMAND, "get", "0", "1", "2"], env=environment(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == Exit.PIPE


def test_every_exit_code_is_explained_in_the_help() -> None:
    text = aioresult("--help").out
    assert set(MEANINGS) == set(Exit)
    for code, meaning in MEANINGS.items():
        assert f"{code.value}: {meaning}" in text


def test_the_most_serious_of_several_outcomes_counts() -> None:
    assert worst([]) is Exit.OK
    assert worst([Exit.OK, Exit.TIMEOUT]) is Exit.TIMEOUT
    assert worst([Exit.FAILED, Exit.TIMEOUT, Exit.OK]) is Exit.FAILED
    assert worst([Exit.FAILED, Exit.UNREADABLE]) is Exit.UNREADABLE


def test_errors_have_codes_by_what_the_user_can_do_about_them() -> None:
    assert exit_for(StoreUnavailable()) is Exit.UNAVAILABLE
    assert exit_for(SettingsError()) is Exit.USAGE
    assert exit_for(DecodeError()) is Exit.UNREADABLE
    assert exit_for(EncodeError()) is exit_for(Unsupported()) is Exit.REFUSED


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_what_to_install(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from aioresult.cli import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", script, "--help"], env=environment(), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (Exit.USAGE, "")
    assert 'pip install "aioresult-backend[cli]"' in ended.stderr
    assert_one_line(ended.stderr)


# --- doctor and sql ---------------------------------------------------------------------------------------------------


def test_doctor_measures_a_round_trip_and_leaves_nothing_behind(redis_url: str) -> None:
    ended = aioresult("doctor", redis_url, "--json")
    (report,) = ended.objects
    assert (ended.code, ended.err) == (0, "")
    assert (report["reachable"], report["push"], report["needs_purge"]) == (True, True, False)
    assert "pub/sub" in report["capabilities"]["mechanism"]
    assert len(report["wake_up_ms"]) == 5
    assert report["settings"]["result_expires"] == 86400
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys() == []


def test_doctor_speaks_to_people_and_advises(url: str) -> None:
    options = ["--set", "push=false", "--set", "poll_interval=0.05", "--set", 'result_accept_content=["json","pickle"]']
    ended = aioresult("doctor", "--url", url, *options)
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert "no push" in text
    assert "up to 0.05 s late" in text
    assert "Pickle is accepted" in text
    assert "aioresult purge" in text
    assert "round trip" in text


@pytest.mark.parametrize("folder", ["[bold]", "q[/bold]", "a:key:b"])
def test_doctor_shows_places_as_they_are(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    url = f"sqlite+aiosqlite:///{tmp_path}/{folder}/results.db"
    ended = aioresult("doctor", url)
    assert (ended.code, ended.err) == (0, "")
    assert f"{folder}/results.db" in "".join(line.strip() for line in ended.out.splitlines())


def test_doctor_says_that_it_may_not_write() -> None:
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-@write", "-@scripting")
        ended = aioresult("doctor", f"redis://reader:pw@{HOST}:{server.port}/0", "--json")
    (report,) = ended.objects
    assert ended.code == Exit.REFUSED
    assert report["error"] in ended.err
    assert "no permissions to run the 'evalsha' command" in ended.err, "and not that it could not be tidied up either"


def test_doctor_goes_on_where_facts_and_subscriptions_are_denied() -> None:
    with RedisServer() as server:
        server.call(
            "ACL", "SETUSER", "new", "on", ">pw", "~*", "&*", "+@all", "-info", "-config", "-subscribe", "-ping"
        )
        url = f"redis://new:pw@{HOST}:{server.port}/0"
        ended = aioresult("doctor", url, "--set", "poll_interval=0.05")
    text = " ".join(ended.out.split())
    assert ended.code == 0
    assert "-- no push polling, one read for all waiters (the user may not subscribe to the tasks' channels" in text
    assert "grant '&celery-task*' +subscribe +unsubscribe" in text
    assert "server not permitted (the user lacks +info)" in text
    assert "eviction not permitted (the user lacks +config|get)" in text
    assert "round trip" in text
    assert ended.err.count("polled") == 1


def test_doctor_reports_what_it_could_not_reach() -> None:
    port = free_port()
    ended = aioresult("doctor", f"redis://:s3cret@127.0.0.1:{port}/0", "--json")
    (report,) = ended.objects
    assert ended.code == Exit.UNAVAILABLE
    assert report["error"] in ended.err
    assert report.get("reachable", False) is False
    assert "s3cret" not in ended.out + ended.err
    assert "not reached" in aioresult("doctor", f"redis://127.0.0.1:{port}/0").out


def test_sql_prepares_a_database(url: str, tmp_path: Path) -> None:
    assert aioresult("sql", "create", "--set", "database_create_tables_at_setup=false", url=url).code == 0
    assert (tmp_path / "results.db").stat().st_size > 0
    assert aioresult("sql", "create", "--json", url=url).objects == [{"tables_ready": True}]
    trigger = aioresult("sql", "install-trigger", url=url)
    assert (trigger.code, trigger.out) == (Exit.REFUSED, "")
    assert "PostgreSQL" in trigger.err
    other = aioresult("sql", "create", url="memory://")
    assert other.code == Exit.REFUSED
    assert_one_line(other.err)


def test_doctor_says_whether_postgresql_announces_what_celery_stores(postgres_url: str) -> None:
    text = " ".join(aioresult("doctor", postgres_url).out.split())
    assert "-- push LISTEN and NOTIFY, one connection (only for what aioresult stores" in text
    assert "polled beside it every 0.5 s, since public.celery_taskmeta has no trigger" in text
    assert "run `aioresult sql install-trigger`" in text
    assert aioresult("sql", "install-trigger", url=postgres_url).code == 0
    text = " ".join(aioresult("doctor", postgres_url).out.split())
    assert "ok push LISTEN and NOTIFY, one connection ok postgresql" in text


def test_sql_installs_and_removes_the_trigger(postgres_url: str) -> None:
    assert aioresult("sql", "create", url=postgres_url).code == 0
    assert aioresult("sql", "install-trigger", "--json", url=postgres_url).objects == [{"changed": True}]
    assert aioresult("sql", "install-trigger", "--all-states", url=postgres_url).code == 0
    assert aioresult("sql", "uninstall-trigger", url=postgres_url) == (0, "the trigger is removed\n", "")
    assert aioresult("sql", "uninstall-trigger", url=postgres_url) == (0, "there was no trigger\n", "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("command", [["tail"], ["get"], ["tail", "--json"]])
def test_text_that_the_output_cannot_hold_is_escaped(tmp_path: Path, command: list[str], encoding: str) -> None:
    """Half of a surrogate pair, or any letter where the terminal's encoding is ASCII."""
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with Backend(url) as backend:
        backend.append("task", "\ud800 and \xe9")
        backend.mark_as_done("task", "\ud800 and \xe9")
    finished = subprocess.run(
        [*COMMAND, *command, "task"],
        env={**environment(url), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")
    shown = finished.stdout.decode(encoding)
    assert r"\ud800 and " in shown
    if "--json" in command:
        json.loads(shown)
