"""Gatehouse's engines by the seam that its hosts use: prompts in, tokens with their text out."""

import sys
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.engine.worker import Token, serve
from gatehouse.engines.base import (
    Engine,
    EngineOptions,
    GenerationRequest,
    RunnerName,
    SequenceOutput,
    TokensPrompt,
)
from gatehouse.engines.choice import load_text_generation

# Imported before the clock runs: a host is forked from a process that has them.
_MODULES = {
    RunnerName.OPENVINO: "gatehouse.engines.llm.loading",
    RunnerName.TRANSFORMERS: "gatehouse.engines.pipelines.text_generation",
}


class GatehouseEngine:
    """An `Engine` of the benchmark over one of the product."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, number: int, prompt: Sequence[int], num_tokens: int) -> None:
        request = GenerationRequest(TokensPrompt(tuple(prompt)), max_new_tokens=num_tokens)
        self._engine.add(number, request)

    def step(self) -> Iterable[Token]:
        outputs = self._engine.step()
        now = time.perf_counter()
        for output in outputs:
            assert isinstance(output, SequenceOutput)
            if output.failure is not None:
                raise RuntimeError(output.failure.message)
            for given in output.tokens:
                yield Token(output.request_id, given.token.id, now)


def main() -> None:
    runner = RunnerName(sys.argv.pop(1))
    import_module(_MODULES[runner])
    options = EngineOptions(runner=runner)

    def load(folder: Path, num_threads: int) -> GatehouseEngine:
        if runner is RunnerName.TRANSFORMERS:
            import_module("torch").set_num_threads(num_threads)
        return GatehouseEngine(load_text_generation(folder, options, num_threads))

    serve(load, ["gatehouse", runner.value])


if __name__ == "__main__":
    main()
