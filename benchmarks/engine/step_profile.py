"""What a step of our engine takes beside the network: the part that is Python.

    python -m benchmarks.engine.step_profile MODEL [--functions]

Counts the processor time of the stepping thread outside OpenVINO's `infer`, so other processes do
not matter much.
"""

import argparse
import cProfile
import os
import pstats
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.engine.workloads import MANY, Prompts
from benchmarks.figures import Spread, show_bar, show_table
from gatehouse.engines.base import (
    Engine,
    EngineOptions,
    GenerationRequest,
    RunnerName,
    TokensPrompt,
)
from gatehouse.engines.choice import load_text_generation

_NUM_TOKENS = 96
_PROMPT_TOKENS = 64
_SMALLEST_VOCABULARY = 32000
_BAR_MILLISECONDS = 1.5
_NUM_FUNCTIONS = 25


class _Stopwatch:
    """Around a function: the processor time of the calling thread."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.seconds = 0.0

    def __get__(self, instance: object, _owner: type) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return self._function(instance, *values, **named)
            finally:
                self.seconds += time.thread_time() - started

        return call


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.step_profile")
    parser.add_argument("model", type=Path)
    parser.add_argument("--functions", action="store_true", help="show where the time goes")
    options = parser.parse_args()
    requests: Any = import_module("openvino").InferRequest
    inference = _Stopwatch(requests.infer)
    requests.infer = inference
    wanted = EngineOptions(runner=RunnerName.OPENVINO)
    engine = load_text_generation(options.model, wanted, os.cpu_count() or 1)
    _show(
        {
            "without log-probabilities": _steps(engine, inference, with_logprobs=False),
            "with": _steps(engine, inference, with_logprobs=True),
        }
    )
    if options.functions:
        profile = cProfile.Profile(time.thread_time)
        profile.runcall(_steps, engine, inference, with_logprobs=False)
        pstats.Stats(profile).sort_stats("tottime").print_stats(_NUM_FUNCTIONS)


def _steps(engine: Engine, inference: _Stopwatch, *, with_logprobs: bool) -> list[float]:
    """Seconds of each step outside the network, while all sequences decode."""
    prompts = Prompts(_SMALLEST_VOCABULARY)
    for number in range(MANY):
        prompt = TokensPrompt(prompts.new(_PROMPT_TOKENS))
        request = GenerationRequest(prompt, max_new_tokens=_NUM_TOKENS, with_logprobs=with_logprobs)
        engine.add(number, request)
    taken = []
    while engine.has_work():
        started, inferred = time.thread_time(), inference.seconds
        outputs = engine.step()
        seconds = time.thread_time() - started - (inference.seconds - inferred)
        if len(outputs) == MANY:
            taken.append(seconds)
    return taken


def _show(steps: dict[str, list[float]]) -> None:
    spreads = {name: Spread.of(taken) for name, taken in steps.items()}
    rows = [[name, *spread.cells(1000)] for name, spread in spreads.items()]
    title = f"Python's share of a step of {MANY} sequences, ms"
    show_table(title, ["", "p10", "median", "p90", "p99"], rows)
    for name, spread in spreads.items():
        show_bar(f"Python's share, {name}", 1000 * spread.p50, "ms", _BAR_MILLISECONDS)
    Console().print("A step also waits for its network; that is not counted.")


if __name__ == "__main__":
    main()
