"""What weights in fewer bits do to a trained model: the demo's storyteller, on new stories.

    python -m benchmarks.engine.weight_quality

Every token of the stories is predicted from those before it. "Same" is how often the likeliest
token is that of the weights as stored.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

import gatehouse.server
from benchmarks.figures import show_table
from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm.openvino_runner import OpenVinoRunner, RunnerOptions, load_runner
from gatehouse.engines.llm.runner import Batch
from gatehouse.training.demo.corpus import draw_story

_MODEL = Path(gatehouse.server.__file__).parent / "demo_models" / "storyteller"
_NUM_STORIES = 120
_SEED = 8


@dataclass(frozen=True, slots=True)
class _Prediction:
    """Of each token of all stories but the first ones.

    Attributes:
        best: What was likeliest.
        logprobs: Of what came, in nats.
    """

    best: NDArray[np.int64]
    logprobs: NDArray[np.float32]


def main() -> None:
    tokenizer = Tokenizer.from_file(str(_MODEL / "tokenizer.json"))
    draw = random.Random(_SEED)  # noqa: S311 - a test set, not a secret
    stories = [draw_story(draw, held_out=True) for _ in range(_NUM_STORIES)]
    texts = [np.array(tokenizer.encode(story).ids, np.int64) for story in stories]
    predictions = {}
    for weight_format in WeightFormat:
        runner = load_runner(_MODEL, RunnerOptions(weight_format=weight_format))
        predictions[weight_format] = _predict(runner, texts)
        runner.close()
    stored = predictions[WeightFormat.STORED]
    rows = [
        [
            weight_format.value,
            f"{-prediction.logprobs.mean():.4f}",
            f"{math.exp(-prediction.logprobs.mean()):.4f}",
            f"{100 * (prediction.best == stored.best).mean():.1f} %",
        ]
        for weight_format, prediction in predictions.items()
    ]
    title = f"{len(texts)} stories, {len(stored.best)} tokens"
    show_table(title, ["weights", "loss", "perplexity", "same"], rows)


def _predict(runner: OpenVinoRunner, texts: list[NDArray[np.int64]]) -> _Prediction:
    best, logprobs = [], []
    for ids in texts:
        values = runner.run(_batch(ids, runner.block_size)).values[:-1].astype(np.float64)
        values -= values.max(-1, keepdims=True)
        values -= np.log(np.exp(values).sum(-1, keepdims=True))
        best.append(values.argmax(-1))
        logprobs.append(np.take_along_axis(values, ids[1:, None], -1)[:, 0])
    return _Prediction(np.concatenate(best), np.concatenate(logprobs).astype(np.float32))


def _batch(ids: NDArray[np.int64], block_size: int) -> Batch:
    """A text by itself, and logits after every token of it."""
    num_blocks = -(-len(ids) // block_size)
    return Batch(
        token_ids=ids,
        positions=np.arange(len(ids)),
        num_past=np.zeros(1, np.int32),
        begins=np.array([0, len(ids)], np.int32),
        block_ids=np.arange(num_blocks, dtype=np.int32),
        block_begins=np.array([0, num_blocks], np.int32),
        rows=np.arange(len(ids)),
    )


if __name__ == "__main__":
    main()
