"""The benchmark suite works, tells wrong values, and its arithmetic is right; nothing here looks at a measured time."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import redis

from aioresult import Backend
from benchmarks import cli, process, suite
from benchmarks.cases import streams
from benchmarks.cases.case import FLOOR, PUSH, Setting
from benchmarks.contestants import KINDS
from benchmarks.figures import Figure, Results, Run
from benchmarks.plan import FULL, PLANS, QUICK, TINY
from benchmarks.process import ChildFailed, Entrant
from benchmarks.report import markdown, number
from benchmarks.rivals import RIVALS, SCRIPTS, Environment, Rivals
from benchmarks.servers import RedisHost
from benchmarks.stats import CURVE, median, paired_ratio, quantile, summarise
from benchmarks.targets import TARGETS, judge
from benchmarks.values import WrongValue, check_all, check_items, item_of, items_of, record_of, task_ids, value_of
from tests.project.children import FORKING
from tests.servers import RedisServer

pytestmark = pytest.mark.once


@pytest.fixture
def forked_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the contestants' processes forked; tests without this fixture start new interpreters."""
    monkeypatch.setattr(process, "subprocess", FORKING)


def _figure(contestant: str, values: list[float], **about: str) -> Figure:
    wanted = {"case": "wake", "store": "redis", "condition": "1 waiter", "metric": "p50", "unit": "ms"} | about
    return Figure(contestant=contestant, values=values, n=10, samples=summarise(values), **wanted)


def _run(figures: list[Figure]) -> Run:
    return Run(
        command="python -m benchmarks",
        mode="quick",
        started="2026-01-01 00:00 UTC",
        seconds=1.0,
        machine={"processor": "some", "cores": "2", "python": "CPython"},
        versions={"aioresult": "0"},
        sizes={},
        left_out={"huey": "pip: no network"},
        figures=figures,
    )


# --- the whole, end to end ---


@pytest.mark.parametrize("case", suite.CASES)
def test_each_case_is_measured_on_a_real_server_and_written_down(
    case: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    if case != "sync":  # which shows that pairs start in new interpreters
        request.getfixturevalue("forked_children")
    arguments = ["--tiny", "--cases", case, "--stores", "redis", "--repetitions", "1", "--output", str(tmp_path)]
    assert cli.main([*arguments, "--url", f"redis={redis_url}"]) == 0

    finished = suite.read(tmp_path / "tiny.json")
    assert {figure.case for figure in finished.figures} == {case}
    assert any(figure.contestant.startswith(PUSH) for figure in finished.figures)
    assert all(math.isfinite(value) for figure in finished.figures for value in figure.values)
    assert "Redis" in finished.versions["redis"]
    text = (tmp_path / "tiny.md").read_text()
    assert "## Targets" in text
    drawn = [f"{case}.svg", f"{case}.png"] if case in ("wake", "load", "streams") else []
    assert all((tmp_path / name).stat().st_size > 0 for name in drawn)
    assert "Redis wake p50" in capsys.readouterr().out


def test_waiting_sends_no_commands_and_registering_sends_few(redis_url: str) -> None:
    run = "counted"
    with Entrant(PUSH, "aioresult", redis_url).start() as child:
        registered = child.ask("register", run=run, count=50)
        before = child.ask("usage")["commands"]
        after = child.ask("usage")["commands"]
        child.ask("abandon")
    assert registered["commands"] <= 8
    assert after == before


@pytest.mark.usefixtures("forked_children")
def test_a_contestant_that_returns_a_wrong_value_fails_the_run(redis_url: str) -> None:
    tasks = task_ids("wrong", 3)
    with Entrant(PUSH, "aioresult", redis_url).start() as child:
        child.ask("register", run="wrong", count=3)
        wrong = [*tasks[:2], tasks[2]]
        with Entrant(FLOOR, "redis-floor", redis_url).start() as producer:
            producer.ask("prepare", run="wrong", count=2)
            child.send("collect")
            producer.ask("produce")
            _store_wrong(redis_url, wrong[2])
            with pytest.raises(ChildFailed, match="WrongValue"):
                child.reply()


def _store_wrong(url: str, task: str) -> None:
    from aioresult.sync import Backend

    with Backend(url) as backend:
        backend.store_result(task, {"n": -1}, "SUCCESS")


# --- streams ---


@pytest.mark.usefixtures("forked_children")
def test_readers_of_streams_and_a_producer_share_a_few_connections(redis_url: str) -> None:
    host, push = RedisHost(redis_url), Entrant(PUSH, "aioresult", redis_url)
    before = host.load().connections
    with push.start() as consumer, push.start() as producer:
        consumer.ask("follow", run="shared", streams=50, readers=2, count=1, timed=False)
        consumer.send("followed")
        producer.ask("pour", run="shared", streams=50, count=1)
        assert consumer.reply()["checked"] == 100
        assert host.load().connections - before <= 4


@pytest.mark.usefixtures("forked_children")
def test_a_reader_that_gets_a_wrong_item_fails_the_run(redis_url: str) -> None:
    (task,) = task_ids("wrong-item", 1)
    with Entrant(PUSH, "aioresult", redis_url).start() as child:
        child.ask("follow", run="wrong-item", streams=1, readers=1, count=2, timed=False)
        child.send("followed")
        asyncio.run(_append(redis_url, task, item_of(task, 1), item_of(task, 3)))
        with pytest.raises(ChildFailed, match="expected item 2"):
            child.reply()


async def _append(url: str, task: str, *values: object) -> None:
    async with Backend(url) as backend:
        await backend.append(task, *values)


def test_a_store_without_streams_is_left_out_with_the_reason() -> None:
    host = SimpleNamespace(url="disabled://")
    setting = Setting("none", host, TINY, Results(), [], lambda _: None)  # type: ignore[arg-type]  # it has no server
    streams.run(setting)
    assert setting.left_out == {"streams on none": "the store keeps none"}
    assert not setting.results.figures


def test_every_item_is_compared() -> None:
    (task,) = task_ids("run", 1)
    first, second, third = items_of(task, 3)
    assert check_items(task, [first, second, third], 3) == 3
    for wrong in ([first, third], [first, first, second], [second], [first, second, third, third]):
        with pytest.raises(WrongValue, match=task):
            check_items(task, wrong, 3)
    with pytest.raises(WrongValue, match="expected 3 items, got 2"):
        check_items(task, [first, second], 3)


def test_the_targets_of_streams_are_about_what_a_full_run_measures() -> None:
    measured = [
        (streams.readers_condition(1), "p50"),
        (streams.streams_condition(FULL.streams[0]), "items per second"),
        (streams.finished_condition(FULL.finished), "items per second"),
        *[
            (streams.crowd_condition(max(FULL.reader_crowds)), name)
            for name in (streams.CONNECTIONS, "memory per reader")
        ],
    ]
    figures = [
        _figure(name, [1.0], case="streams", condition=condition, metric=metric)
        for condition, metric in measured
        for name in (PUSH, FLOOR, streams.XREAD)
    ]
    figures += [
        _figure(name, [1.0], case="streams", condition=streams.PAUSED, store=store)
        for store in ("postgresql", "mongodb", "sqlite")
        for name in (PUSH, streams.RESULT)
    ]
    verdicts = [
        verdict for verdict in judge(Results(figures)) if "stream" in verdict.figure or "XREAD" in verdict.figure
    ]
    assert len(verdicts) == 9
    assert not [verdict.figure for verdict in verdicts if verdict.verdict == "not measured"]


def test_a_child_that_cannot_start_says_why() -> None:
    with pytest.raises(ChildFailed, match="nowhere"):
        Entrant(PUSH, "nowhere", "redis://localhost").start()


@pytest.mark.usefixtures("forked_children")
def test_a_child_reports_its_own_traceback(redis_url: str) -> None:
    with (
        Entrant(PUSH, "aioresult", redis_url).start() as child,
        pytest.raises(ChildFailed, match="KeyError: 'dance'"),
    ):
        child.ask("dance")


@pytest.mark.usefixtures("forked_children")
def test_a_silent_child_is_given_up(redis_url: str) -> None:
    with Entrant(PUSH, "aioresult", redis_url).start() as child:
        child.send("register", run="never", count=1)
        child.reply()
        child.send("collect")
        with pytest.raises(ChildFailed, match="said nothing"):
            child.reply(patience=0.01)


def test_only_the_database_of_the_url_is_emptied() -> None:
    with RedisServer() as server:
        url = f"{server.url.rpartition('/')[0]}/7"
        with redis.Redis.from_url(server.url) as others, redis.Redis.from_url(url) as ours:
            for client in (others, ours):
                client.set("key", "value")
            RedisHost(url).clear()
            assert (others.get("key"), ours.get("key")) == (b"value", None)


def test_the_floor_uses_the_database_and_the_password_of_the_url() -> None:
    with RedisServer(password="secret") as server:
        url = f"{server.url.rpartition('/')[0]}/7"
        results, streams = Entrant(FLOOR, "redis-floor", url), Entrant(FLOOR, "redis-streams-floor", url)
        with results.start() as consumer, results.start() as producer:
            consumer.ask("register", run="floor", count=2)
            producer.ask("prepare", run="floor", count=2)
            producer.ask("produce")
            assert consumer.ask("collect")["checked"] == 2
        with streams.start() as consumer, streams.start() as producer:
            consumer.ask("follow", run="floor", streams=1, readers=1, count=1, timed=False)
            producer.ask("pour", run="floor", streams=1, count=1)
            assert consumer.ask("followed")["checked"] == 1
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 3


# --- values ---


def test_every_value_is_compared() -> None:
    tasks = task_ids("run", 3)
    values: list[object] = [value_of(task) for task in tasks]
    assert check_all(tasks, values) == 3
    values[1] = value_of(tasks[2])
    with pytest.raises(WrongValue, match=tasks[1]):
        check_all(tasks, values)


def test_ids_are_as_long_as_a_uuid_and_records_are_celerys() -> None:
    (task,) = task_ids("run", 1, start=7)
    assert len(task) == 36
    assert value_of(task)["n"] == 7
    record = msgspec.json.decode(record_of(task))
    assert next(iter(record)) == "status"
    assert record["task_id"] == task


# --- arithmetic ---


def test_quantiles_are_interpolated() -> None:
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([1], 0.99) == 1
    assert quantile([0, 10], 0.25) == 2.5
    assert median([3, 1, 2]) == 2
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 0.5)


def test_a_summary_keeps_the_shape_of_the_distribution() -> None:
    summary = summarise(list(range(101)))
    assert (summary.n, summary.low, summary.p50, summary.p99, summary.high) == (101, 0, 50, 99, 100)
    assert len(summary.curve) == len(CURVE)
    assert list(summary.curve) == sorted(summary.curve)


def test_ratios_are_taken_turn_by_turn() -> None:
    ratio = paired_ratio([2, 20, 3], [1, 10, 1])  # the second turn was disturbed, for both
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 3)
    assert paired_ratio([1], [0]).median == math.inf


def test_numbers_are_shown_with_three_digits() -> None:
    assert [number(value) for value in (0, 0.012345, 1.5, 12345.6, -250)] == ["0", "0.0123", "1.5", "12,300", "-250"]


# --- targets and reports ---


def test_a_target_is_met_missed_or_not_measured() -> None:
    verdicts = judge(Results([_figure(PUSH, [1.2, 1.2]), _figure(FLOOR, [1.0, 1.0]), _figure("Celery", [2.0, 2.0])]))
    assert [verdict.verdict for verdict in verdicts[:3]] == ["met", "missed", "not measured"]
    assert "1.2 x" in verdicts[0].measured


def test_a_higher_figure_can_be_the_better_one() -> None:
    about = {"case": "crowd", "condition": "100,000 waiters", "metric": "deliveries per second", "unit": "1/s"}
    target = next(target for target in TARGETS if target.figure.startswith("Redis deliveries"))
    ratio = target.measured(Results([_figure(PUSH, [90.0], **about), _figure(FLOOR, [100.0], **about)]))
    assert ratio is not None
    assert target.met(ratio)
    assert not target.met(msgspec.structs.replace(ratio, median=0.7))


def test_the_report_tells_the_circumstances_the_targets_and_every_figure() -> None:
    text = markdown(_run([_figure(PUSH, [1.2, 1.4]), _figure(FLOOR, [1.0, 1.1])]))
    assert "`python -m benchmarks`" in text
    assert "left out: huey: pip: no network" in text
    assert "| aioresult | 1.3 (1.2 to 1.4) | 10 x 2 |" in text
    assert "### redis, 1 waiter" in text


def test_a_run_can_be_read_back_and_drawn_again(tmp_path: Path) -> None:
    # Values that far apart: between close ones there are small ticks, whose labels take long to draw.
    finished = _run([_figure(PUSH, [1.2, 1400.0]), _figure(FLOOR, [1.0, 11.0])])
    json, _ = suite.write(finished, tmp_path)
    assert suite.read(json) == finished
    assert cli.main(["--redraw", str(json), "--output", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "wake.svg").read_bytes() == _drawn(finished, tmp_path, "wake.svg")


def _drawn(finished: Run, folder: Path, name: str) -> bytes:
    from benchmarks import plots  # takes a while, in each process that runs tests

    plots.draw(finished, folder)
    return (folder / name).read_bytes()


def test_nothing_is_drawn_without_figures(tmp_path: Path) -> None:
    from benchmarks import plots

    assert plots.draw(_run([]), tmp_path) == []


# --- the command line and the plans ---


@pytest.mark.parametrize(
    "arguments", [["--cases", "dance"], ["--stores", "oracle"], ["--url", "redis"], ["--full", "--tiny"]]
)
def test_what_is_not_understood_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_explains_the_cases(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {case} " in text for case in suite.CASES)


def test_plans_name_only_cases_and_peers_that_exist() -> None:
    for plan in PLANS.values():
        assert set(plan.elsewhere) <= set(suite.CASES)
    assert [cases for _, cases in suite.steps(QUICK, ["wake", "load"], ["redis", "sqlite"])] == [
        ["wake", "load"],
        ["wake"],
    ]
    assert TINY.repetitions * TINY.wakes < QUICK.repetitions * QUICK.wakes < FULL.repetitions * FULL.wakes


def test_every_peer_has_its_script() -> None:
    for rival in RIVALS:
        if rival.script in KINDS:
            continue  # a contestant that runs in an environment of its own
        assert (SCRIPTS / rival.script).is_file()
        assert rival.script.startswith("with_")  # a script named like its package would shadow it


def test_a_peer_takes_part_in_its_own_cases_only(tmp_path: Path) -> None:
    for rival in RIVALS:
        if rival.name in ("docket", "resumable-stream"):
            environment = Path(Environment(rival, tmp_path).python).parent.parent
            environment.mkdir()
            (environment / "complete").touch()
    rivals = Rivals(["docket", "resumable"], tmp_path).install(lambda _: None)

    def names(store: str, case: str) -> list[str]:
        return [entrant.name for entrant in rivals.entrants(store, "redis://localhost", case)]

    assert names("redis", "wake") == names("redis", "load") == ["docket"]
    assert names("redis", "streams") == ["resumable-stream"]
    assert names("redis", "crowd") == names("sqlite", "streams") == []
    (entrant,) = rivals.entrants("redis", "redis://localhost", "streams")
    assert entrant.command(-1)[0].startswith(str(tmp_path))
    assert entrant.producer.command(-1) == entrant.command(-1)


def test_a_peer_that_cannot_be_installed_is_left_out_with_the_reason(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("not a folder")
    rivals = Rivals(["huey"], occupied).install(lambda _: None)
    assert {"huey", "huey, notify_result"} == set(rivals.left_out)
    assert "occupied" in rivals.left_out["huey"]
    assert rivals.entrants("redis", "redis://localhost", "wake") == []


def test_no_peer_takes_part_unless_it_is_wanted(tmp_path: Path) -> None:
    rivals = Rivals([], tmp_path).install(lambda _: None)
    assert rivals.entrants("redis", "redis://localhost", "wake") == []
    assert list(tmp_path.iterdir()) == []
