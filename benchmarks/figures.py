"""Percentiles, tables, and what is known of the machine: shared by every benchmark."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

_WIDTH = 150
_MODEL = re.compile(r"^model name\s*:\s*(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some values: the middle, and how far they go."""

    p10: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        ordered = sorted(values)
        return cls(*(percentile(ordered, share) for share in (0.1, 0.5, 0.9, 0.99)))

    def cells(self, scale: float, digits: int = 2) -> list[str]:
        return [f"{value * scale:.{digits}f}" for value in (self.p10, self.p50, self.p90, self.p99)]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of sorted values do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """The median of what `first` is over `second`, pair by pair."""
    return median(a - b for a, b in zip(first, second, strict=True))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=_WIDTH).print(table)


def show_bar(name: str, value: float, unit: str, bar: float, *, at_least: bool = False) -> None:
    """One line: what was asked for, and what it is."""
    is_kept = value >= bar if at_least else value <= bar
    sign = "≥" if at_least else "≤"
    verdict = "kept" if is_kept else "MISSED"
    Console(width=_WIDTH).print(
        f"  {name}: {value:.2f} {unit} (bar {sign} {bar:g} {unit}): {verdict}"
    )


def show_machine(packages: Sequence[str]) -> None:
    """Processor, cores, load and versions: what a figure means nothing without."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    Console(width=_WIDTH).print(
        f"{_processor()}, {cores} cores, load {load} before the run; "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {versions}",
        highlight=False,
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = _MODEL.search(path.read_text()) if path.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
