"""Measure what the hub adds to an engine, and what a plan's priority is worth."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import show_machine
from benchmarks.inference import idle_streams, latency, priorities, token_times
from benchmarks.inference.hub import running_floor, running_hub

_PACKAGES = ("granian", "fastapi", "starlette", "sqlalchemy", "msgspec")
_WITHOUT_MODEL = ("latency", "tokens", "idle")
_PARTS = (*_WITHOUT_MODEL, "priority")


def main() -> None:
    options = _options()
    quick = options.quick
    show_machine(_PACKAGES)
    # Short, as a Unix socket's path may have about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="gh") as folder:
        if not set(options.only).isdisjoint(_WITHOUT_MODEL):
            _measure_the_hub(options, Path(folder))
        if "priority" in options.only:
            priorities.measure(Path(folder), num_rounds=4 if quick else 16)


def _measure_the_hub(options: argparse.Namespace, folder: Path) -> None:
    """The parts before an engine that computes nothing."""
    quick = options.quick
    with running_floor() as floor, running_hub(folder) as hub:
        if "latency" in options.only:
            latency.measure(hub, floor, options.requests or (100 if quick else 600))
        if "tokens" in options.only:
            token_times.measure(hub, floor, seconds=2 if quick else 9, num_rounds=1 if quick else 3)
        if "idle" in options.only:
            idle_streams.measure(hub, floor, num_streams=200 if quick else 1000)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute; rough figures")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--requests", type=int, help="of each kind, in the part on latency")
    return parser.parse_args()


if __name__ == "__main__":
    main()
