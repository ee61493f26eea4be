"""How far our engine's numbers are from those of `transformers`, on a trained model.

    python -m benchmarks.engine.rounding [MODEL]

Each text is run once by each, with logits after every token; then each continues the texts'
beginnings greedily. Needs no quiet machine: nothing is timed.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.figures import show_table
from gatehouse.engines.llm.openvino_runner import (
    ComputeType,
    OpenVinoRunner,
    RunnerOptions,
    load_runner,
)
from gatehouse.engines.llm.runner import Batch
from gatehouse.training.demo.corpus import draw_document

_STORYTELLER = Path(str(resources.files("gatehouse.server"))) / "demo_models" / "storyteller"
_NUM_TEXTS = 40
_MAX_TOKENS = 256
_NUM_OPENING = 12
_NUM_NEW = 60
# No seed that the model was trained with.
_SEED = 2**31 + 7

Logits = NDArray[np.float32]
Answer = list[int]


@dataclass(frozen=True, slots=True)
class Found:
    """What one way of computing gave: logits of each text, and its continuation."""

    logits: list[Logits]
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two ways of computing.

    Attributes:
        agreement: Share of positions with the same likeliest token.
        largest: Between two logits.
        mean: The same.
        margin: How much likelier the first's token was than the second's, in logits, where they
            differed most clearly; 0 if they never did.
        num_equal: Continuations.
    """

    agreement: float
    largest: float
    mean: float
    margin: float
    num_equal: int


class Ours:
    """A runner and one sequence in it."""

    def __init__(self, folder: Path, compute_type: ComputeType, eos: int) -> None:
        self._runner: OpenVinoRunner = load_runner(folder, RunnerOptions(compute_type, 1, 2**26))
        self._eos = eos

    def logits(self, ids: Sequence[int], num_past: int = 0) -> Logits:
        """After each of the tokens, which follow `num_past` that were run."""
        end = num_past + len(ids)
        num_blocks = -(-end // self._runner.block_size)
        batch = Batch(
            token_ids=np.array(ids, np.int64),
            positions=np.arange(num_past, end, dtype=np.int64),
            num_past=np.array([num_past], np.int32),
            begins=np.array([0, len(ids)], np.int32),
            block_ids=np.arange(num_blocks, dtype=np.int32),
            block_begins=np.array([0, num_blocks], np.int32),
            rows=np.arange(len(ids), dtype=np.int64),
        )
        return self._runner.run(batch).values.copy()

    def answer(self, ids: Sequence[int]) -> Answer:
        tokens = [int(self.logits(ids)[-1].argmax())]
        while tokens[-1] != self._eos and len(tokens) < _NUM_NEW:
            values = self.logits(tokens[-1:], len(ids) + len(tokens) - 1)
            tokens.append(int(values[-1].argmax()))
        return tokens


class Theirs:
    """A model of `transformers`."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def logits(self, ids: Sequence[int]) -> Logits:
        with torch.inference_mode():
            values: Logits = self._model(torch.tensor([ids])).logits[0].float().numpy()
        return values

    def answer(self, ids: Sequence[int]) -> Answer:
        inputs = torch.tensor([ids])
        output = self._model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=_NUM_NEW,
            do_sample=False,
        )
        return [int(token) for token in output[0, len(ids) :]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.rounding")
    parser.add_argument("model", type=Path, nargs="?", default=_STORYTELLER)
    folder = parser.parse_args().model
    # More would wait for each other wherever anything else runs.
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = _texts(tokenizer)
    makers: dict[str, Callable[[], Ours | Theirs]] = {
        "transformers, float32": lambda: Theirs(folder, torch.float32),
        "ours, float32": lambda: Ours(folder, ComputeType.FLOAT32, tokenizer.eos_token_id),
        "transformers, bfloat16": lambda: Theirs(folder, torch.bfloat16),
        "ours, bfloat16": lambda: Ours(folder, ComputeType.BFLOAT16, tokenizer.eos_token_id),
    }
    found = {name: _run(make(), texts) for name, make in makers.items()}
    _show(found, sum(map(len, texts)))


def _texts(tokenizer: Any) -> list[list[int]]:
    draw = random.Random(_SEED)  # noqa: S311 - no secret
    texts: list[list[int]] = []
    while len(texts) < _NUM_TEXTS:
        ids = tokenizer(draw_document(draw).text).input_ids[:_MAX_TOKENS]
        if len(ids) > 2 * _NUM_OPENING:
            texts.append(ids)
    return texts


def _run(computer: Ours | Theirs, texts: list[list[int]]) -> Found:
    return Found(
        [computer.logits(ids) for ids in texts],
        [computer.answer(ids[:_NUM_OPENING]) for ids in texts],
    )


def difference(first: Found, second: Found) -> Difference:
    """How far two ways of computing are from each other."""
    ours, theirs = np.concatenate(first.logits), np.concatenate(second.logits)
    gaps = np.abs(ours - theirs)
    best, other = ours.argmax(-1), theirs.argmax(-1)
    rows = np.arange(len(ours))
    pairs = zip(first.answers, second.answers, strict=True)
    return Difference(
        agreement=float((best == other).mean()),
        largest=float(gaps.max()),
        mean=float(gaps.mean()),
        margin=float((ours[rows, best] - ours[rows, other]).max()),
        num_equal=sum(answer == another for answer, another in pairs),
    )


def _show(found: dict[str, Found], num_positions: int) -> None:
    rows = []
    for first, second in combinations(found, 2):
        told = difference(found[first], found[second])
        rows.append(
            [
                f"{first} and {second}",
                f"{100 * told.agreement:.2f} %",
                f"{told.largest:.2g}",
                f"{told.mean:.2g}",
                f"{told.margin:.2g}",
                f"{told.num_equal} of {_NUM_TEXTS}",
            ]
        )
    columns = ["", "same token", "largest", "mean", "margin lost", "same answers"]
    show_table(f"Logits after {num_positions:,} tokens of {_NUM_TEXTS} texts", columns, rows)


if __name__ == "__main__":
    main()
