"""Draws the pictures of the explanation: ``python docs/pictures.py`` writes them.

With ``--check`` it says which are out of date, and writes nothing.

``imports.svg`` is made of the import statements of the package and of the order in ``tests/project/test_layers.py``.
``protocol.svg`` is made of the two lists of steps below.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's tests, wherever the package is installed from
from tests.project import test_layers  # noqa: E402  (the path comes first)

FOLDER = ROOT / "docs" / "static"
INK, FAINT, GOOD, BAD = "#1f2933", "#9aa5b1", "#1b7f4b", "#b42318"
FONT = "font-family='ui-monospace, Menlo, Consolas, monospace'"

# What each part belongs to: a colour for each, and the order in the legend.
AREAS = {
    "values": ("#e3f2fd", "collection credentials errors states record stream settings values"),
    "small parts": ("#eceff1", "forks patches background backoff deadlines"),
    "codec": ("#fff3e0", "codec"),
    "ports": ("#fde68a", "abc"),
    "batching": ("#e8f5e9", "lanes changes batching"),
    "stores": ("#fce4ec", "stores"),
    "waiting": (
        "#ede7f6",
        "members openfeed channels looking polling losses subscription hub purging runtime reading waiting",
    ),
    "what users hold": ("#e0f7fa", "default writing revoking result collecting groups backend many"),
    "running tasks": ("#f1f8e9", "leases stopping emitting recording reporting performing jobs runner"),
    "outside": ("#ffffff", "sync integrations testing cli __main__"),
}


class Drawing:
    """An SVG that grows by its elements."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, fill: str, label: str = "", size: int = 12) -> None:
        self._parts.append(
            f"<rect x='{x:.0f}' y='{y:.0f}' width='{width:.0f}' height='{height:.0f}' rx='5' fill='{fill}' "
            f"stroke='{FAINT}'/>"
        )
        if label:
            self.text(x + width / 2, y + height / 2 + size / 3, label, size=size, anchor="middle")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 12,
        anchor: str = "start",
        fill: str = INK,
        bold: bool = False,
    ) -> None:
        weight = " font-weight='bold'" if bold else ""
        self._parts.append(
            f"<text x='{x:.0f}' y='{y:.0f}' font-size='{size}' text-anchor='{anchor}' fill='{fill}'{weight} {FONT}>"
            f"{escape(text)}</text>"
        )

    def line(
        self, points: str, stroke: str = FAINT, *, width: float = 1, dashed: bool = False, arrow: bool = False
    ) -> None:
        extra = (" stroke-dasharray='4 4'" if dashed else "") + (" marker-end='url(#arrow)'" if arrow else "")
        self._parts.append(f"<path d='{points}' fill='none' stroke='{stroke}' stroke-width='{width}'{extra}/>")

    def svg(self, title: str) -> str:
        width, height = self._size
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img'>"
            f"<title>{escape(title)}</title><defs><marker id='arrow' viewBox='0 0 10 10' refX='9' refY='5' "
            f"markerWidth='7' markerHeight='7' orient='auto'><path d='M0 0L10 5L0 10z' fill='{INK}'/></marker></defs>"
        )
        background = f"<rect width='{width}' height='{height}' fill='#ffffff'/>"  # also where the page is dark
        return "\n".join([head, background, *self._parts, "</svg>\n"])


# --- the imports ---


def imports() -> dict[str, set[str]]:
    """Return which parts of the package each part imports."""
    graph: dict[str, set[str]] = {name: set() for names in test_layers.LAYERS for name in names}
    for part, found in test_layers.own_imports():
        if found.in_function and (part, found.part) == test_layers.BRIDGE:
            continue
        graph[part].add(found.part)
    return {_shown(part): {_shown(other) for other in others} for part, others in graph.items()}


def layers() -> list[list[str]]:
    """Return the parts from the bottom up."""
    return [[_shown(name) for name in names] for names in test_layers.LAYERS]


def _shown(part: str) -> str:
    return "aioresult" if part == "the package itself" else part


def without_detours(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out each import of what an imported part imports as well, be it by a detour."""
    reached: dict[str, set[str]] = {}
    for part in TopologicalSorter(graph).static_order():
        reached[part] = graph[part].union(*(reached[other] for other in graph[part]))
    return {
        part: {other for other in others if not any(other in reached[third] for third in others - {other})}
        for part, others in graph.items()
    }


def draw_imports() -> str:
    """Draw the parts of the package, each above those that it imports."""
    rows = layers()
    height = ROW * len(rows) + 90
    drawing = Drawing(WIDE, height)
    places = {
        name: place for level, names in enumerate(rows) for name, place in _row(names, height - 80 - ROW * (level + 1))
    }
    for part, others in sorted(without_detours(imports()).items()):
        for other in sorted(others):
            drawing.line(_curve(places[part], places[other]))
    colours = {part: colour for colour, parts in AREAS.values() for part in parts.split()}
    for name, place in places.items():
        drawing.box(place.x, place.y, place.width, BOX, colours.get(name, "#ffffff"), name)
    x = MARGIN
    for area, (colour, _) in AREAS.items():
        drawing.box(x, height - 52, 14, 14, colour)
        drawing.text(x + 18, height - 41, area, size=11)
        x += round(len(area) * 6.7) + 34
    remark = "A line: the upper part imports the lower one. What is imported by a detour as well has none."
    drawing.text(MARGIN, height - 14, remark, size=11)
    return drawing.svg("Which part of aioresult imports which")


ROW, BOX, MARGIN, WIDE = 46, 24, 30, 1000


@dataclass(frozen=True)
class Place:
    """Where a box is."""

    x: float
    y: float
    width: float


def _row(names: list[str], y: float) -> list[tuple[str, Place]]:
    widths = [len(name) * 7.6 + 18 for name in names]
    gap = min(40.0, (WIDE - 2 * MARGIN - sum(widths)) / max(1, len(names) - 1))
    x = (WIDE - sum(widths) - gap * (len(names) - 1)) / 2
    placed = []
    for name, width in zip(names, widths, strict=True):
        placed.append((name, Place(x, y, width)))
        x += width + gap
    return placed


def _curve(upper: Place, lower: Place) -> str:
    """Return a line from the bottom of one box to the top of another."""
    begin, end = upper.x + upper.width / 2, lower.x + lower.width / 2
    bend = (lower.y - upper.y) / 2
    first, second = f"{begin:.0f} {upper.y + bend:.0f}", f"{end:.0f} {lower.y - bend + BOX:.0f}"
    return f"M{begin:.0f} {upper.y + BOX:.0f}C{first} {second} {end:.0f} {lower.y:.0f}"


# --- the protocol ---


@dataclass(frozen=True)
class Step:
    """A message from one of the three to another, or a remark at one of them."""

    begin: str
    end: str
    text: str
    colour: str = INK


WHO = ("waiter", "store", "worker")
LOST = (
    Step("waiter", "store", "read: is it ready?"),
    Step("store", "waiter", "no"),
    Step("worker", "store", "store the result"),
    Step("store", "store", "announce it: nobody listens", BAD),
    Step("waiter", "store", "subscribe"),
    Step("waiter", "waiter", "wait, in vain", BAD),
)
FOUND = (
    Step("waiter", "store", "subscribe"),
    Step("store", "waiter", "subscribed"),
    Step("waiter", "store", "read: is it ready?"),
    Step("store", "waiter", "no, or the result"),
    Step("worker", "store", "store the result"),
    Step("store", "waiter", "announce it", GOOD),
)


def draw_protocol() -> str:
    """Draw both orders side by side."""
    drawing = Drawing(1000, 400)
    for left, title, colour, steps in (
        (20, "Look, then subscribe: a gap", BAD, LOST),
        (520, "Subscribe, confirmed, then read", GOOD, FOUND),
    ):
        drawing.text(left + 10, 30, title, size=15, fill=colour, bold=True)
        at = {who: left + 50 + 180 * number for number, who in enumerate(WHO)}
        for who, x in at.items():
            drawing.box(x - 42, 50, 84, 26, "#f5f7fa", who)
            drawing.line(f"M{x} 76V375", dashed=True)
        for number, step in enumerate(steps):
            y = 116 + 45 * number
            begin, end = at[step.begin], at[step.end]
            if step.begin == step.end:
                drawing.box(begin - 5, y - 12, 10, 16, step.colour)
                drawing.text(begin + 12, y, step.text, fill=step.colour, bold=True)
            else:
                drawing.line(f"M{begin} {y}H{end}", step.colour, width=1.5, arrow=True)
                drawing.text((begin + end) / 2, y - 6, step.text, anchor="middle", fill=step.colour)
    drawing.line("M505 20V380")
    return drawing.svg("Two orders of reading and subscribing: the first has a gap, the second has none")


PICTURES = {"imports.svg": draw_imports, "protocol.svg": draw_protocol}


def main() -> int:
    """Write the pictures, or say which differ from what would be written."""
    drawn = {name: draw() for name, draw in PICTURES.items()}
    if "--check" in sys.argv[1:]:
        late = [
            name for name, text in drawn.items() if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != text
        ]
        if late:
            sys.stderr.write(f"out of date: {', '.join(late)}; run `python docs/pictures.py`\n")
        return 1 if late else 0
    for name, text in drawn.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
