"""Measure our engines of text generation beside those that a user would start instead."""

import argparse
import os
from pathlib import Path

from benchmarks.engine.bars import show_bars
from benchmarks.engine.checkpoints import ensure_checkpoint
from benchmarks.engine.comparison import Comparison
from benchmarks.engine.engines import CONTENDERS, OURS, PEERS, EngineName
from benchmarks.engine.plot import write_plot
from benchmarks.engine.report import show_tables
from benchmarks.engine.rounds import Plan, Race
from benchmarks.engine.shapes import SHAPES
from benchmarks.figures import show_machine

_PARTS = ("single", "first", "all-at-once", "gaps", "curve", "poisson", "prefix")
_QUICK_PARTS = ("single", "first", "all-at-once")
_USUAL_PEERS = (EngineName.TRANSFORMERS, EngineName.OPENVINO_GENAI)
_PACKAGES = ("gatehouse", "openvino", "numpy")


def main() -> None:
    options = _options()
    show_machine(_PACKAGES)
    plan = Plan(
        parts=frozenset(options.only),
        concurrencies=tuple(options.in_flight),
        num_rounds=options.rounds,
        num_threads=options.threads,
    )
    contenders = [CONTENDERS[EngineName(name)] for name in (*options.peers, *options.ours)]
    all_results = []
    for name in options.shapes:
        shape = SHAPES[name]
        checkpoint = ensure_checkpoint(shape, options.models)
        results = Race(shape, plan, contenders).run(checkpoint, options.environments)
        comparison = Comparison(results)
        show_tables(comparison)
        show_bars(comparison)
        all_results.append(results)
    if options.plot and not {"all-at-once", "curve"}.isdisjoint(plan.parts):
        write_plot(options.plot, all_results)


def _options() -> argparse.Namespace:
    cache = Path.home() / ".cache" / "gatehouse-benchmarks"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes: the smallest shape")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--peers", nargs="*", choices=PEERS)
    parser.add_argument("--ours", nargs="*", choices=OURS, default=OURS)
    parser.add_argument("--only", nargs="+", choices=_PARTS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--in-flight", nargs="+", type=int, help="requests at once, ascending")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every engine")
    parser.add_argument("--environments", type=Path, default=cache / "environments")
    parser.add_argument("--models", type=Path, default=cache / "models")
    parser.add_argument("--plot", type=Path, help="where to write the picture (SVG)")
    options = parser.parse_args()
    quick = options.quick
    options.shapes = options.shapes or (["15M"] if quick else list(SHAPES))
    if options.peers is None:
        options.peers = [EngineName.TRANSFORMERS] if quick else _USUAL_PEERS
    options.only = options.only or (_QUICK_PARTS if quick else _PARTS)
    options.rounds = options.rounds or (1 if quick else 3)
    options.in_flight = options.in_flight or ([8] if quick else [1, 2, 4, 8, 16, 32])
    return options


if __name__ == "__main__":
    main()
