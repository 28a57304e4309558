"""A run as Markdown: its machine, the targets, and a table for each case, store and condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from benchmarks.figures import Figure, Results, Run
from benchmarks.targets import Verdict, judge

T = TypeVar("T")

MARKS = {"met": "met", "missed": "**missed**", "not measured": "not measured"}


def markdown(run: Run) -> str:
    """Return the whole report."""
    results = Results(run.figures)
    parts = [f"# Results of the {run.mode} run of {run.started}", _circumstances(run), "## Targets"]
    parts.append(
        "Ratios within this run: the median of the repetitions, and the lowest and the highest of them in parentheses."
    )
    parts.append(targets_table(judge(results)))
    for case in _distinct(figure.case for figure in results):
        parts.append(f"## {case}")
        for store, condition in _distinct((figure.store, figure.condition) for figure in results.select(case=case)):
            figures = results.select(case=case, store=store, condition=condition)
            parts.append(f"### {store}, {condition}")
            parts.append(_table(figures))
    return "\n\n".join(parts) + "\n"


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """Return the table of targets."""
    rows = [(v.figure, v.target, v.measured, MARKS[v.verdict]) for v in verdicts]
    return _rows(("figure", "target", "measured", ""), rows)


def _circumstances(run: Run) -> str:
    lines = [f"- command: `{run.command}`, {run.seconds:.0f} s"]
    lines.append("- machine: " + ", ".join(f"{name} {value}" for name, value in run.machine.items()))
    lines.append("- versions: " + ", ".join(f"{name} {value}" for name, value in run.versions.items()))
    for name, reason in run.left_out.items():
        lines.append(f"- left out: {name}: {reason}")
    lines.append(
        "- each cell: the median of the repetitions, with the lowest and highest; N: operations of one repetition, "
        "times the number of repetitions"
    )
    return "\n".join(lines)


def _table(figures: Sequence[Figure]) -> str:
    metrics = list(_distinct((figure.metric, figure.unit) for figure in figures))
    header = ["", *[f"{metric}, {unit}" if unit else metric for metric, unit in metrics], "N"]
    rows = []
    for contestant in _distinct(figure.contestant for figure in figures):
        own = {figure.metric: figure for figure in figures if figure.contestant == contestant}
        first = next(iter(own.values()))
        cells = [_cell(own.get(metric)) for metric, _ in metrics]
        rows.append((contestant, *cells, f"{first.n:,} x {len(first.values)}"))
    return _rows(header, rows)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    low, high = min(figure.values), max(figure.values)
    if low == high:
        return number(low)
    return f"{number(figure.median)} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Return a number with three significant digits, and separators for thousands."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _distinct(items: Iterable[T]) -> Iterable[T]:
    return dict.fromkeys(items)
