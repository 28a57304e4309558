"""streams: the time from when a producer has an item until its readers run again; and many streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Final

from benchmarks.cases.case import FLOOR, PUSH, Setting, Tally, fresh_run
from benchmarks.cases.wake import PAUSE, PairWaker
from benchmarks.process import ChildFailed, Entrant, Pair, Pause
from benchmarks.rivals import RivalEntrant
from benchmarks.stats import milliseconds

RESULT: Final = "aioresult, a result"
XREAD: Final = "redis-py, XREAD BLOCK"
PUBLISH: Final = "redis-py, publish/subscribe"
CONNECTIONS: Final = "connections, the producer's included"
PAUSED: Final = "1 reader, a pause before each item"
_FEWEST: Final = 20
"""The least number of items of one turn."""
_WARM_UP: Final = 50
"""The most items of the warm-up turn, whose figures are dropped."""
_MOST_CONNECTIONS: Final = 1000
"""The largest crowd for contestants that need a connection for each reader."""


def readers_condition(readers: int) -> str:
    """Return the name of the condition with this number of readers of one stream, without pauses."""
    return f"{readers:,} reader" + "s" * (readers > 1)


def streams_condition(streams: int) -> str:
    """Return the name of the condition with this number of streams at once."""
    return f"{streams:,} streams, a reader each"


def finished_condition(items: int) -> str:
    """Return the name of the condition with a finished stream of this number of items."""
    return f"a finished stream of {items:,} items"


def crowd_condition(size: int) -> str:
    """Return the name of the condition with this number of idle readers, each of its own stream."""
    return f"{size:,} idle readers of a stream each"


def run(setting: Setting) -> None:
    """Measure one stream with few and many readers; on Redis also many streams, crowds of readers, and late ones."""
    with setting.push().start() as child:
        kept = child.ask("keeps_streams")["kept"]
    if not kept:
        setting.left_out[f"streams on {setting.store}"] = "the store keeps none"
        return
    with ExitStack() as stack:
        pairs = _pairs(setting, stack)
        _paused(setting, pairs, stack.enter_context(closing(PairWaker(setting.push()))))
        if setting.store == "redis":
            for readers in setting.plan.readers:
                _busy(setting, pairs, readers)
            _throughput(setting, pairs)
            _replays(setting, pairs)
    if setting.store == "redis":
        for size in setting.plan.reader_crowds:
            _crowd(setting, size)
    setting.host.clear()


def _entrants(setting: Setting) -> list[Entrant]:
    if setting.store != "redis":
        return [setting.push()]
    url = setting.host.url
    return [
        setting.push(),
        Entrant(FLOOR, "redis-streams-floor", url),
        Entrant(XREAD, "redis-py-xread", url),
        Entrant(PUBLISH, "redis-py-publish", url),
    ]


def _pairs(setting: Setting, stack: ExitStack) -> list[Pair]:
    pairs: list[Pair] = []
    rivals: Sequence[RivalEntrant] = list(setting.rivals)
    for entrant in (*_entrants(setting), *rivals):
        setting.tell(f"{entrant.name} starts")
        try:
            pairs.append(stack.enter_context(closing(Pair(entrant))))
        except ChildFailed as exc:
            if entrant not in rivals:
                raise
            setting.leave_out(entrant.name, exc)
    return pairs


def _with_room_for(setting: Setting, pairs: list[Pair], readers: int) -> list[Pair]:
    """Return the ``pairs`` that support this number of readers in one process, and have not failed."""
    few = {rival.name for rival in setting.rivals if rival.rival.many < readers}
    return [pair for pair in pairs if pair.name not in few and pair.name not in setting.left_out]


def _take_turns(
    setting: Setting, condition: str, pairs: list[Pair], measure: Callable[[Tally | None, Pair], None]
) -> None:
    """Measure each of ``pairs`` once per repetition, after a warm-up without a tally; leave out failing rivals."""
    tally = Tally(setting, "streams", condition)
    rivals = {rival.name for rival in setting.rivals}
    for repetition in range(-1, setting.plan.repetitions):
        for pair in list(pairs):
            setting.tell(f"{condition}, {pair.name}")
            try:
                measure(tally if repetition >= 0 else None, pair)
            except ChildFailed as exc:
                if pair.name not in rivals:
                    raise
                # A rival may be known to lose or repeat items: it is left out, and the report says so.
                setting.leave_out(pair.name, exc, wrong_too=True)
                pairs.remove(pair)
                tally.drop(pair.name)
    tally.close()


# --- one stream ---


def _paused(setting: Setting, pairs: list[Pair], result: PairWaker) -> None:
    """Measure one reader that is idle before each item, and for comparison the wake-up of a waiter for a result."""

    def measure(tally: Tally | None, pair: Pair) -> None:
        turn = setting.wakes if tally else min(setting.wakes, _WARM_UP)
        own = pair is result
        samples = result.wake(fresh_run(), turn, 0, PAUSE) if own else _latencies(pair, 1, turn, PAUSE)
        if tally is not None:
            tally.add_latencies(RESULT if own else pair.name, samples)

    everybody = [*pairs, result]
    _take_turns(setting, PAUSED, everybody, measure)
    pairs[:] = [pair for pair in everybody if pair is not result]


def _busy(setting: Setting, pairs: list[Pair], readers: int) -> None:
    """Measure readers of one stream that get the next item as soon as all have received the last one."""
    count = max(_FEWEST, setting.plan.items // readers)

    def measure(tally: Tally | None, pair: Pair) -> None:
        turn = count if tally else min(count, _WARM_UP)
        samples = _latencies(pair, readers, turn, (0.0, 0.0))
        if tally is not None:
            tally.add_latencies(pair.name, samples)

    _take_turns(setting, readers_condition(readers), _with_room_for(setting, pairs, readers), measure)


def _latencies(pair: Pair, readers: int, count: int, pause: Pause) -> list[float]:
    """Return the milliseconds that each item took to reach each reader."""
    run = fresh_run()
    pair.producer.ask("begin", run=run, streams=1)
    pair.consumer.ask("follow", run=run, streams=1, readers=readers, count=count, timed=True)
    pair.producer.ask("settle")
    pair.producer.send("say", run=run, count=count, pause=pause)
    pair.consumer.send("followed")
    appended_at = pair.producer.reply()["appended_at"]
    received_at = pair.consumer.reply()["received_at"]
    return [sample for one in received_at for sample in milliseconds(appended_at, one)]


# --- many streams ---


def _throughput(setting: Setting, pairs: list[Pair]) -> None:
    """Measure many streams at once, each with a reader and a producer that appends an item at a time."""
    streams, count = setting.plan.streams
    total = streams * count

    def measure(tally: Tally | None, pair: Pair) -> None:
        run = fresh_run()
        pair.producer.ask("begin", run=run, streams=streams)
        pair.consumer.ask("follow", run=run, streams=streams, readers=1, count=count, timed=False)
        pair.producer.ask("settle")
        before = setting.host.load()
        pair.consumer.send("followed")
        pair.producer.send("pour", run=run, streams=streams, count=count)
        produced, read = pair.producer.reply(), pair.consumer.reply()
        server = setting.host.load().cpu - before.cpu
        if tally is not None:
            tally.add(
                pair.name, "items per second", "1/s", total / (read["done_at"] - produced["began_at"]) * 1e9, total
            )
            tally.add(pair.name, "reading CPU per item", "us", read["cpu"] * 1e6, total)
            tally.add(pair.name, "appending CPU per item", "us", produced["cpu"] * 1e6, total)
            tally.add(pair.name, "server CPU per item", "us", server / total * 1e6, total)

    _take_turns(setting, streams_condition(streams), _with_room_for(setting, pairs, streams), measure)
    setting.host.clear()


def _replays(setting: Setting, pairs: list[Pair]) -> None:
    """Measure a reader that begins after the end of the stream."""
    count = setting.plan.finished
    runs: dict[str, str] = {}
    keeping = [pair for pair in pairs if pair.name in (PUSH, FLOOR, XREAD)]
    for pair in keeping:
        runs[pair.name] = fresh_run()
        pair.producer.ask("fill", run=runs[pair.name], count=count)

    def measure(tally: Tally | None, pair: Pair) -> None:
        read = pair.consumer.ask("replay", run=runs[pair.name], count=count)
        if tally is not None:
            tally.add(pair.name, "items per second", "1/s", count / read["seconds"], count)
            tally.add(pair.name, "reading CPU per item", "us", read["cpu"] * 1e6, count)

    _take_turns(setting, finished_condition(count), keeping, measure)
    setting.host.clear()


def _crowd(setting: Setting, size: int) -> None:
    """Measure idle readers, each of its own stream, and then one item for each of them."""
    tally = Tally(setting, "streams", crowd_condition(size))
    for _ in range(setting.plan.heavy_repetitions):
        for entrant in _entrants(setting):
            if size <= _MOST_CONNECTIONS or entrant.name in (PUSH, FLOOR):
                setting.tell(f"{crowd_condition(size)}, {entrant.name}")
                _crowd_turn(setting, tally, entrant, size)
                setting.host.clear()
    tally.close()


def _crowd_turn(setting: Setting, tally: Tally, entrant: Entrant, size: int) -> None:
    run = fresh_run()
    before = setting.host.load()
    with entrant.start() as consumer, entrant.start() as producer:
        following = consumer.ask("follow", run=run, streams=size, readers=1, count=1, timed=False)
        consumer.send("followed")
        produced = producer.ask("pour", run=run, streams=size, count=1)
        connections = setting.host.load().connections - before.connections
        read = consumer.reply()
    tally.add(entrant.name, "registration", "s", following["seconds"], size)
    tally.add(entrant.name, "memory per reader", "B", following["memory"], size)
    tally.add(entrant.name, CONNECTIONS, "", connections, size)
    tally.add(entrant.name, "items per second", "1/s", size / (read["done_at"] - produced["began_at"]) * 1e9, size)
