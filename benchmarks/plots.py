"""
Plots as SVG, in a few lines: bars with a range, and lines.

Rules of this file: values in, text out. Colours are those of a person who may not tell
red from green; text is the reader's own font; a bar's value stands beside it.
"""

from __future__ import annotations

import math

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape


WIDTH = 720
LEFT = 110
"""Pixels for names, or for the figures of an axis."""

RIGHT = 110
"""Pixels for the value beside a bar."""

TOP = 40
ROW = 26
PLOT_HEIGHT = 280
OURS = "#0072b2"
OTHERS = "#999999"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")

STYLE = "font-family: sans-serif; font-size: 13px; background: white"


@dataclass(frozen=True, slots=True)
class Bar:
    """
    One row: the median, and the range that it came from.
    """

    name: str
    least: float
    median: float
    most: float


def bars(title: str, rows: Sequence[Bar], unit: str, ours: str) -> str:
    """
    Draw *rows* on a logarithmic axis, the shortest first.
    """
    rows = sorted(rows, key=lambda row: row.median)
    low = min(row.least for row in rows) / 2
    high = max(row.most for row in rows)

    def x(value: float) -> float:
        share = math.log(value / low) / math.log(high / low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    drawn = [text(10, 22, f"{title} ({unit}, logarithmic; median, least and most)")]
    for number, row in enumerate(rows):
        y = TOP + number * ROW
        colour = OURS if row.name == ours else OTHERS
        drawn += [
            text(LEFT - 8, y + 15, row.name, "end"),
            bar(y + 3, x(row.median) - LEFT, colour),
            line(x(row.least), y + 11.5, x(row.most), y + 11.5),
            text(x(row.most) + 8, y + 15, f"{row.median:.3g} {unit}"),
        ]
    return document(drawn, TOP + len(rows) * ROW + 10)


def lines(
    title: str, across: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """
    Draw *series* of (x, y), x on a logarithmic axis, y from nought.
    """
    xs = sorted({x for points in series.values() for x, _ in points})
    top = 1.15 * max(y for points in series.values() for _, y in points)
    bottom = TOP + PLOT_HEIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        share = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        left = LEFT + share * (WIDTH - LEFT - RIGHT)
        return left, bottom - y / top * PLOT_HEIGHT

    drawn = [text(10, 22, title), text(WIDTH / 2, bottom + 40, across, "middle")]
    for value in ticks(top):
        y = place(xs[0], value)[1]
        drawn += [
            line(LEFT, y, WIDTH - RIGHT, y, "#dddddd"),
            text(LEFT - 8, y + 4, f"{value:g}", "end"),
        ]
    drawn += [text(place(x, 0)[0], bottom + 20, f"{x:,g}", "middle") for x in xs]
    for (name, points), colour in zip(series.items(), COLOURS, strict=False):
        drawn += curve([place(*point) for point in points], name, colour)
    return document(drawn, bottom + 55)


def curve(points: Sequence[tuple[float, float]], name: str, colour: str) -> list[str]:
    """
    Draw one line with its points, its name at its end.
    """
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>'
            for a, b in points
        ),
        text(x + 8, y + 4, name, colour=colour),
    ]


def ticks(top: float) -> Iterable[float]:
    """
    Return some four to nine round values from nought to *top*.
    """
    step = 10 ** math.floor(math.log10(top))
    step = step / 5 if top / step < 2 else step / 2 if top / step < 5 else step
    return [number * step for number in range(int(top / step) + 1)]


def text(
    x: float, y: float, words: str, anchor: str = "start", colour: str = "#222222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(words)}</text>"
    )


def bar(y: float, width: float, colour: str) -> str:
    return (
        f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{ROW - 9}"'
        f' fill="{colour}"/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#222222") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}"/>'
    )


def document(drawn: Sequence[str], height: float) -> str:
    inner = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}"'
        f' viewBox="0 0 {WIDTH} {height:.0f}" style="{STYLE}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{inner}\n</svg>\n'
    )
