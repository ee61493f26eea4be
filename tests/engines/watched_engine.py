"""Our engine over a runner that is watched, and that may show fewer blocks than it has."""

from pathlib import Path
from typing import Any

import numpy as np

from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.openvino_runner import (
    ComputeType,
    OpenVinoRunner,
    RunnerOptions,
    load_runner,
)
from gatehouse.engines.llm.runner import Batch, Logits, ModelRunner
from gatehouse.engines.llm.scheduler import SchedulerLimits
from gatehouse.engines.text.model_text import ModelFacts

_CACHE_BYTES = 2**25


class WatchedRunner:
    """A `ModelRunner` over another one, which outlives it.

    Attributes:
        lengths: Of each batch, how many tokens of each sequence it had.
    """

    def __init__(self, runner: ModelRunner, num_blocks: int | None = None) -> None:
        self._runner = runner
        self.block_size = runner.block_size
        self.vocabulary_size = runner.vocabulary_size
        self.adapters = runner.adapters
        self.num_blocks = num_blocks or runner.num_blocks
        assert self.num_blocks <= runner.num_blocks
        self.lengths: list[list[int]] = []

    @property
    def num_pieces(self) -> int:
        """Of prompts longer than a token."""
        return sum(length > 1 for lengths in self.lengths for length in lengths)

    def run(self, batch: Batch) -> Logits:
        self.lengths.append(np.diff(batch.begins).tolist())
        return self._runner.run(batch)

    def memory_bytes(self) -> int:
        return self._runner.memory_bytes()

    def close(self) -> None:
        """Others may use the runner still."""


def make_runner(folder: Path, compute_type: ComputeType) -> OpenVinoRunner:
    return load_runner(folder, RunnerOptions(compute_type=compute_type, cache_bytes=_CACHE_BYTES))


def make_engine(
    runner: WatchedRunner, tokenizer: Any, limits: SchedulerLimits | None = None
) -> BatchedTextGeneration:
    """No token ends a sequence."""
    defaults = GenerationDefaults(runner.vocabulary_size)
    facts = ModelFacts("openvino", "any", 256, "any", 0)
    return BatchedTextGeneration(runner, tokenizer, defaults, facts, limits)
