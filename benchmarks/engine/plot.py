"""Throughput against the number of requests in flight, as a picture in SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from benchmarks.engine import workloads
from benchmarks.engine.engines import CONTENDERS, EngineName
from benchmarks.engine.rounds import Results, at_once

_WIDTH, _HEIGHT = 300, 220
_LEFT, _TOP, _GAP = 52, 44, 56
_BOTTOM = 66
_COLOURS = {
    EngineName.LLM: "#0b6e4f",
    EngineName.PIPELINES: "#73b59b",
    EngineName.TRANSFORMERS: "#c0392b",
    EngineName.OPENVINO_GENAI: "#2c6fbb",
    EngineName.VLLM: "#8e5ea2",
}
_NUM_TICKS = 4
_SHORT = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)

Curve = list[tuple[int, float]]


def write_plot(path: Path, results: Sequence[Results]) -> None:
    """A panel per shape, a line per engine; each panel has its own scale, from zero.

    Shapes of which nothing was measured at once are left out.
    """
    panels = [(one.shape.name, _curves(one)) for one in results]
    panels = [(name, curves) for name, curves in panels if curves]
    width = _LEFT + len(panels) * (_WIDTH + _GAP)
    height = _TOP + _HEIGHT + _BOTTOM
    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (name, curves) in enumerate(panels):
        parts += _panel(_LEFT + number * (_WIDTH + _GAP), name, curves)
    parts += _legend(sorted({name for _, curves in panels for name in curves}, key=_place))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _curves(results: Results) -> dict[EngineName, Curve]:
    curves: dict[EngineName, Curve] = {}
    for name in results.loaded:
        points = [
            (count, median(rates))
            for count in results.plan.concurrencies
            if (rates := results.rates(at_once(count), name, workloads.throughput))
        ]
        if points:
            curves[name] = points
    return curves


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where a count and a rate are in a panel. Counts double from left to right."""

    left: int
    counts: Sequence[int]
    top_rate: float

    def x(self, count: int) -> float:
        steps = max(1.0, math.log2(self.counts[-1] / self.counts[0]))
        return self.left + _WIDTH * math.log2(count / self.counts[0]) / steps

    def y(self, rate: float) -> float:
        return _TOP + _HEIGHT * (1 - rate / self.top_rate)


def _panel(left: int, name: str, curves: dict[EngineName, Curve]) -> list[str]:
    top_rate = _round_above(max(rate for curve in curves.values() for _, rate in curve))
    counts = sorted({count for curve in curves.values() for count, _ in curve})
    axes = _Axes(left, counts, top_rate)
    title = f'<text x="{left}" y="{_TOP - 20}" font-size="14" font-weight="bold">'
    parts = [
        f"{title}{escape(name)} parameters</text>",
        f'<text x="{left}" y="{_TOP - 6}" fill="#555">tokens per second</text>',
        *_grid(axes),
    ]
    for engine in sorted(curves, key=_place, reverse=True):
        parts += _line(axes, curves[engine], _COLOURS[engine])
    return parts


def _grid(axes: _Axes) -> list[str]:
    parts = []
    for tick in range(_NUM_TICKS + 1):
        rate = axes.top_rate * tick / _NUM_TICKS
        height = axes.y(rate)
        parts += [
            f'<path d="M{axes.left} {height:.1f}h{_WIDTH}" stroke="#dddddd"/>',
            f'<text x="{axes.left - 6}" y="{height + 4:.1f}" text-anchor="end">{rate:g}</text>',
        ]
    below = f'y="{_TOP + _HEIGHT + 16}" text-anchor="middle"'
    parts += [f'<text x="{axes.x(count):.1f}" {below}>{count}</text>' for count in axes.counts]
    middle = f'x="{axes.left + _WIDTH / 2}" y="{_TOP + _HEIGHT + 32}"'
    parts.append(f'<text {middle} text-anchor="middle" fill="#555">requests in flight</text>')
    return parts


def _line(axes: _Axes, curve: Curve, colour: str) -> list[str]:
    points = [(axes.x(count), axes.y(rate)) for count, rate in curve]
    line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
    return [
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>'
            for across, down in points
        ),
    ]


def _legend(names: Sequence[EngineName]) -> list[str]:
    down = _TOP + _HEIGHT + 54
    parts = []
    left = _LEFT
    for name in names:
        label = CONTENDERS[name].label
        parts += [
            f'<path d="M{left} {down - 4}h18" stroke="{_COLOURS[name]}" stroke-width="3"/>',
            f'<text x="{left + 24}" y="{down}">{escape(label)}</text>',
        ]
        left += 44 + 7 * len(label)
    return parts


def _place(name: EngineName) -> int:
    return list(_COLOURS).index(name)


def _round_above(value: float) -> float:
    """The next number that, as its quarters, is short to write."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in _SHORT if power * step >= value)
