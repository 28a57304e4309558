"""Plots of a run, as SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.cases.case import FLOOR, PUSH, QUICK_POLL, SLOW_POLL
from benchmarks.cases.crowd import WITH_TIMEOUT
from benchmarks.cases.load import NOBODY
from benchmarks.cases.streams import PAUSED
from benchmarks.cases.throughput import DRIVER
from benchmarks.figures import Figure, Results, Run
from benchmarks.stats import CURVE, median

mpl.use("Agg")
mpl.rcParams.update({"svg.hashsalt": "aioresult", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

_COLOURS: Final = {PUSH: "#0b6e4f", FLOOR: "#8a8a8a", SLOW_POLL: "#c8553d", QUICK_POLL: "#e8a87c", "Celery": "#37814a"}
_OTHERS: Final = (
    "#4361a6 #7a5195 #bc5090 #5c7f99 #96723b #3f8efc #6b705c #9d4edd #d4a017 #00a6a6 #b56576 #1d3557"
).split()
_STORES: Final = {"redis": "Redis", "postgresql": "PostgreSQL", "mongodb": "MongoDB", "sqlite": "SQLite"}


def draw(run: Run, folder: Path) -> list[Path]:
    """Write all plots for which ``run`` has figures into ``folder``, and return the files."""
    results = Results(run.figures)
    plots: dict[str, Callable[[Results], Canvas | None]] = {
        "wake": wake,
        "wake-stores": wake_of_stores,
        "load": load,
        "throughput": throughput,
        "streams": streams,
    }
    written: list[Path] = []
    for name, plot in plots.items():
        canvas = plot(results)
        if canvas is None:
            continue
        note = f"{run.machine['processor']}, {run.machine['cores']} cores, {run.machine['python']}; {run.started}"
        canvas.text(0.995, 0.005, note, ha="right", va="bottom", fontsize=6, color="#777777")
        for suffix in ("svg", "png"):
            path = folder / f"{name}.{suffix}"
            canvas.savefig(path, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            written.append(path)
    return written


def _canvas(width: float, height: float) -> Canvas:
    """Return an empty canvas, with room for a line of small print at its foot."""
    foot = 0.16 / height
    return Canvas(figsize=(width, height), layout=ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - foot)))


def wake(results: Results) -> Canvas | None:
    """Draw the range of wake-ups of all contestants on Redis, one line for each, on a logarithmic scale."""
    figures = [
        figure
        for figure in results.select(case="wake", store="redis", condition="1 waiter", metric="p50")
        if " waits, " not in figure.contestant
    ]
    if not figures:
        return None
    figures.sort(key=lambda figure: figure.samples.p50 if figure.samples else 0.0, reverse=True)
    canvas = _canvas(8, 1.1 + 0.36 * len(figures))
    axes = canvas.subplots()
    for row, figure in enumerate(figures):
        _range(axes, row, figure)
    axes.set_yticks(range(len(figures)), [figure.contestant for figure in figures])
    axes.set_ylim(-0.5, len(figures) - 0.3)  # room for the number above the topmost
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_milliseconds))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(
        "Redis: from the stored result to the resumed waiter\n(dot: p50, bar: p25 to p75, line: p1 to p99)", loc="left"
    )
    return canvas


def _range(axes: Axes, row: int, figure: Figure) -> None:
    assert figure.samples is not None
    at = dict(zip(CURVE, figure.samples.curve, strict=True))
    colour = _COLOURS.get(figure.contestant, "#4361a6")
    axes.plot([at[0.01], at[0.99]], [row, row], color=colour, linewidth=1.2)
    axes.plot([at[0.25], at[0.75]], [row, row], color=colour, linewidth=6, alpha=0.5, solid_capstyle="butt")
    axes.plot([at[0.5]], [row], "o", color=colour)
    axes.annotate(
        _milliseconds(at[0.5], 0), (at[0.5], row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7
    )


def wake_of_stores(results: Results) -> Canvas | None:
    """Draw, for each store, the share of waiters that run again within a time."""
    stores = [store for store in _STORES if results.find(case="wake", store=store)]
    if not stores:
        return None
    canvas = _canvas(4 * min(2, len(stores)), 3 * ((len(stores) + 1) // 2) + 0.3)
    grid = canvas.subplots((len(stores) + 1) // 2, min(2, len(stores)), squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(stores) :]:
        axes.set_visible(False)
    for store, axes in zip(stores, grid.flat, strict=False):
        for name in (FLOOR, PUSH, QUICK_POLL, SLOW_POLL, "Celery"):
            figure = results.find(case="wake", store=store, condition="1 waiter", contestant=name, metric="p50")
            if figure is not None and figure.samples is not None:
                style = ":" if name in (FLOOR, "Celery") else "-"
                axes.plot(figure.samples.curve, CURVE, style, color=_COLOURS[name], label=name, linewidth=1.8)
        axes.set_title(_STORES[store], loc="left")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_milliseconds))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.grid(color="#dddddd", linewidth=0.6)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    canvas.suptitle("Share of waiters that have been resumed, over the time since their result was stored", fontsize=10)
    return canvas


def load(results: Results) -> Canvas | None:
    """Draw what waiting costs the server, over the number of waiters."""
    figures = results.select(case="load", store="redis")
    if not figures:
        return None
    canvas = _canvas(9, 4.2)
    panels = canvas.subplots(1, 2)
    names = list(dict.fromkeys(figure.contestant for figure in figures))
    others = [name for name in names if name not in _COLOURS]
    for axes, metric, title in zip(
        panels,
        ("server commands", "server CPU"),
        ("commands per second at the server", "CPU of the server, ms per second"),
        strict=True,
    ):
        for name in names:
            points = sorted((f.n, f.median) for f in figures if f.contestant == name and f.metric == metric)
            if name == NOBODY:
                axes.axhline(
                    median([value for _, value in points]), color="#bbbbbb", linestyle=":", label="nobody waits"
                )
                continue
            colour = _COLOURS.get(name) or _OTHERS[others.index(name) % len(_OTHERS)]
            width = 2.4 if name == PUSH else 1.3
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=name, linewidth=width)
        axes.set_xscale("log")
        if metric == "server CPU":
            axes.set_yscale("log")
            axes.set_ylim(bottom=1)
        else:
            axes.set_yscale("symlog", linthresh=0.1)
            axes.set_ylim(bottom=0)
        axes.set_xlabel("waiters, for whom nothing happens")
        axes.set_title(title, loc="left")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.grid(color="#dddddd", linewidth=0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return canvas


def throughput(results: Results) -> Canvas | None:
    """Draw throughput on Redis as a share of the floor's."""
    rows: Sequence[tuple[str, dict[str, str], str]] = (
        ("get() of finished tasks,\nconcurrency 1,000", _many("ready"), "per second"),
        ("stores,\nconcurrency 1,000", _many("store"), "per second"),
        ("deliveries to\n100,000 waiters", {"case": "crowd", "condition": "100,000 waiters"}, "deliveries per second"),
    )
    names = (FLOOR, PUSH, WITH_TIMEOUT, DRIVER["redis"])
    colours = (_COLOURS[FLOOR], _COLOURS[PUSH], "#5fb49c", "#4361a6")
    shown = [row for row in rows if results.find(store="redis", contestant=FLOOR, metric=row[2], **row[1])]
    if not shown:
        return None
    canvas = _canvas(8, 3.6)
    axes = canvas.subplots()
    for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
        for index, (_, wanted, metric) in enumerate(shown):
            figure = results.find(store="redis", contestant=name, metric=metric, **wanted)
            ratio = results.ratio(name, FLOOR, store="redis", metric=metric, **wanted)
            if figure is None or ratio is None:
                continue
            x = index + (place - 1.5) * 0.21
            axes.bar(x, ratio.median, 0.2, color=colour, label=name if index in (0, 2) else None)
            axes.annotate(f"{figure.median / 1000:,.1f} k/s", (x, ratio.median), ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(shown)), [row[0] for row in shown])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    axes.set_title("Redis: throughput against the floor, a bare protocol with nothing around it", loc="left")
    return canvas


def streams(results: Results) -> Canvas | None:
    """Draw how long an item takes to reach its readers, over their number: p50 as a line, p99 as a dotted one."""
    figures = [f for f in results.select(case="streams", store="redis", metric="p50") if f.condition != PAUSED]
    if not figures:
        return None
    canvas = _canvas(8, 4.4)
    axes = canvas.subplots()
    names = list(dict.fromkeys(figure.contestant for figure in figures))
    others = [name for name in names if name not in _COLOURS]
    for name in names:
        points = sorted(
            (_readers(f), f.samples.p50, f.samples.p99) for f in figures if f.contestant == name and f.samples
        )
        colour = _COLOURS.get(name) or _OTHERS[others.index(name) % len(_OTHERS)]
        numbers, middle, high = zip(*points, strict=True)
        axes.plot(numbers, middle, "o-", markersize=4, color=colour, label=name, linewidth=2.4 if name == PUSH else 1.5)
        axes.plot(numbers, high, ":", color=colour, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("readers of the stream")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(_milliseconds))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title("Redis: from the appended item to the resumed reader (solid: p50, dotted: p99)", loc="left")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return canvas


def _readers(figure: Figure) -> int:
    return int(figure.condition.partition(" ")[0].replace(",", ""))


def _many(case: str) -> dict[str, str]:
    return {"case": case, "condition": "concurrency 1,000"}


def _milliseconds(value: float, _: object) -> str:
    if value < 1:
        return f"{value * 1000:.3g} us"
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"
