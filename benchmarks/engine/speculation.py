"""Whether guessing tokens pays: what look-up finds in text, and what right guesses would save.

    python -m benchmarks.engine.speculation MODEL [--rounds 3]

The demo models are asked for stories and for code, and to go on with a text that says it all again.
`MODEL`, of any weights, is held to one token by a bias, and gets guesses of which a share is right.
"""

import argparse
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median

from benchmarks.engine.workloads import Prompts
from benchmarks.figures import show_table
from gatehouse.engines.base import (
    EngineOptions,
    GenerationRequest,
    Prompt,
    SamplingParams,
    SequenceOutput,
    TextPrompt,
    TokensPrompt,
)
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.loading import load_batched_text_generation
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence
from gatehouse.engines.llm.speculation import PromptLookup, Proposer

_DEMO_MODELS = Path(str(resources.files("gatehouse.server"))) / "demo_models"
_STORY = (
    "Once upon a time there was a small fox named Pip who lived in a house by the river. In the "
    "evening he went to the gate and looked at the stars."
)
_CODE = "def area(width, height):\n    return width * height\n\n\ndef perimeter(width, height):\n"
_SHARES = (0.0, 0.5, 0.8, 1.0)
_STREAMS = (1, 4)
_PROMPT_TOKENS = 64
_NUM_TOKENS = 32
_SMALLEST_VOCABULARY = 32000
_TOKEN = 40
_GREEDY = SamplingParams()
_ONE_TOKEN = SamplingParams(logit_bias=((_TOKEN, 1000.0),))


@dataclass(frozen=True, slots=True)
class _Run:
    """What some requests took. `wall` and `cpu` are seconds."""

    answers: list[list[int]]
    num_steps: int
    wall: float
    cpu: float


class _Told:
    """Guesses at answers of one token again and again; each is right with a chance."""

    def __init__(self, share: float) -> None:
        chance = random.Random(1)  # noqa: S311 - a repeatable load, no secret
        right = [chance.random() < share for _ in range(2 * _NUM_TOKENS)]
        self._guesses = [_TOKEN if is_right else _TOKEN + 1 for is_right in right]

    def propose(self, sequence: ScheduledSequence, num_tokens: int) -> list[int]:
        known = len(sequence.generated_ids)
        return self._guesses[known : known + num_tokens]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.speculation")
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = [
        _row(name, _load(folder), [TextPrompt(text)], PromptLookup(), options.rounds)
        for name, folder, text in (
            ("a story", _DEMO_MODELS / "storyteller", _STORY),
            (
                "a story told twice",
                _DEMO_MODELS / "storyteller",
                f"{_STORY} {_STORY} {_STORY[:40]}",
            ),
            ("code", _DEMO_MODELS / "gap-filler", _CODE),
            ("code again", _DEMO_MODELS / "gap-filler", f"{_CODE}{_CODE}{_CODE[:24]}"),
        )
    ]
    _show("Look-up, one stream, over none", rows)
    engine = _load(options.model)
    prompts = Prompts(_SMALLEST_VOCABULARY)
    rows = []
    for num_streams in _STREAMS:
        asked = [TokensPrompt(prompts.new(_PROMPT_TOKENS)) for _ in range(num_streams)]
        for share in _SHARES:
            name = f"{num_streams} at once, {share:.0%} right"
            rows.append(_row(name, engine, asked, _Told(share), options.rounds, _ONE_TOKEN))
    _show(f"Guesses to {options.model.name}, over none", rows)


def _load(folder: Path) -> BatchedTextGeneration:
    return load_batched_text_generation(folder, EngineOptions(), os.cpu_count() or 1)


def _row(
    name: str,
    engine: BatchedTextGeneration,
    prompts: Sequence[Prompt],
    proposer: Proposer,
    num_rounds: int,
    sampling: SamplingParams = _GREEDY,
) -> list[str]:
    """Medians over rounds in which both have their turn."""
    _run(engine, prompts[:1], None, sampling)
    pairs = [
        (_run(engine, prompts, None, sampling), _run(engine, prompts, proposer, sampling))
        for _ in range(num_rounds)
    ]
    without, guessing = pairs[0]
    num_equal = sum(
        one == other for one, other in zip(without.answers, guessing.answers, strict=True)
    )
    return [
        name,
        f"{without.num_steps / guessing.num_steps:.2f}",
        f"{median(plain.wall / guessed.wall for plain, guessed in pairs):.2f}",
        f"{median(plain.cpu / guessed.cpu for plain, guessed in pairs):.2f}",
        f"{num_equal}/{len(prompts)}",
    ]


def _run(
    engine: BatchedTextGeneration,
    prompts: Sequence[Prompt],
    proposer: Proposer | None,
    sampling: SamplingParams,
) -> _Run:
    engine.proposer = proposer
    for number, prompt in enumerate(prompts):
        engine.add(number, GenerationRequest(prompt, sampling, max_new_tokens=_NUM_TOKENS))
    answers: list[list[int]] = [[] for _ in prompts]
    wall, cpu, num_steps = time.perf_counter(), time.process_time(), 0
    while engine.has_work():
        for output in engine.step():
            assert isinstance(output, SequenceOutput)
            answers[output.request_id] += [token.token.id for token in output.tokens]
        num_steps += 1
    return _Run(answers, num_steps, time.perf_counter() - wall, time.process_time() - cpu)


def _show(title: str, rows: list[list[str]]) -> None:
    show_table(title, ["", "tokens a step", "speed", "per CPU s", "same answers"], rows)


if __name__ == "__main__":
    main()
