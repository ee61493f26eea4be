"""Measure what the hub adds to an engine: `python -m benchmarks.inference [--quick]`."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import show_machine
from benchmarks.inference import idle_streams, latency, token_times
from benchmarks.inference.hub import running_floor, running_hub

_PACKAGES = ("granian", "fastapi", "starlette", "sqlalchemy", "msgspec")
_PARTS = ("latency", "tokens", "idle")


def main() -> None:
    options = _options()
    quick = options.quick
    show_machine(_PACKAGES)
    # Short, as a Unix socket's path may have about a hundred characters.
    with (
        tempfile.TemporaryDirectory(prefix="gh") as folder,
        running_floor() as floor,
        running_hub(Path(folder)) as hub,
    ):
        if "latency" in options.only:
            latency.measure(hub, floor, options.requests or (100 if quick else 600))
        if "tokens" in options.only:
            token_times.measure(hub, floor, seconds=2 if quick else 9, num_rounds=1 if quick else 3)
        if "idle" in options.only:
            idle_streams.measure(hub, floor, num_streams=200 if quick else 1000)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 20 seconds; rough figures")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--requests", type=int, help="of each kind, in the part on latency")
    return parser.parse_args()


if __name__ == "__main__":
    main()
