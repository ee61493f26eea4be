"""What every decoder family must pass, against transformers and against itself.

The caller's model has a context of 256 tokens and a window, if any, of fewer than 60.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llm_models import CONTEXT_LENGTH, VOCABULARY_SIZE, Reference, Running, run_pieces
from numpy.typing import NDArray

from gatehouse.engines.llm.openvino_runner import (
    ComputeType,
    OpenVinoRunner,
    RunnerOptions,
    load_runner,
)

NUM_NEW = 48
_CACHE_BYTES = 2**22
_PROMPT_LENGTHS = (1, 2, 19, 64, 131)


def exact_runner(folder: Path, **options: Any) -> OpenVinoRunner:
    return default_runner(folder, compute_type=ComputeType.FLOAT32, **options)


def default_runner(folder: Path, **options: Any) -> OpenVinoRunner:
    return load_runner(folder, RunnerOptions(cache_bytes=_CACHE_BYTES, **options))


def make_prompts(seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(VOCABULARY_SIZE) for _ in range(n)] for n in _PROMPT_LENGTHS]


def make_sequences(runner: OpenVinoRunner, prompts: Sequence[Sequence[int]]) -> list[Running]:
    """Each with blocks for a whole context, none shared, and in no order."""
    each = -(-CONTEXT_LENGTH // runner.block_size)
    block_ids = list(range(runner.num_blocks))
    random.Random(1).shuffle(block_ids)
    assert len(block_ids) >= each * len(prompts)
    return [
        Running(prompt, block_ids[each * place : each * (place + 1)])
        for place, prompt in enumerate(prompts)
    ]


def check_exact(folder: Path) -> None:
    """In float32 the graph gives what transformers gives: logits and greedy tokens."""
    reference, runner = Reference(folder), exact_runner(folder)
    prompts = make_prompts()
    (sequence,) = make_sequences(runner, prompts[-1:])
    (values,) = run_pieces(runner, [(sequence, len(sequence.ids))])
    np.testing.assert_allclose(values, reference.logits(sequence.ids), rtol=0, atol=1e-3)

    expected = [reference.greedy(prompt, NUM_NEW) for prompt in prompts]
    assert len({token for tokens in expected for token in tokens}) > 20, "the answers must vary"
    alone = [_greedy(runner, [prompt], 512)[0] for prompt in prompts]
    assert alone == expected
    assert _greedy(runner, prompts, 512) == expected
    assert _greedy(runner, prompts, 17) == expected
    runner.close()


def _greedy(
    runner: OpenVinoRunner, prompts: Sequence[Sequence[int]], chunk: int
) -> list[list[int]]:
    """Continue all prompts at once; those still prefilled, in chunks, beside those that decode."""
    sequences = make_sequences(runner, prompts)
    while any(len(s.ids) < len(p) + NUM_NEW for s, p in zip(sequences, prompts, strict=True)):
        pieces = [
            (sequence, _piece(len(sequence.ids) - sequence.num_past, chunk))
            for sequence, prompt in zip(sequences, prompts, strict=True)
            if len(sequence.ids) < len(prompt) + NUM_NEW
        ]
        for (sequence, _), values in zip(pieces, run_pieces(runner, pieces), strict=True):
            if sequence.num_past == len(sequence.ids):
                sequence.ids.append(int(values[-1].argmax()))
    return [s.ids[len(p) :] for s, p in zip(sequences, prompts, strict=True)]


def _piece(missing: int, chunk: int) -> int:
    """At most `chunk` tokens, so that never a single one of a prompt is left."""
    return chunk + 1 if missing == chunk + 1 else min(chunk, missing)


def check_law(runner: OpenVinoRunner, num_rounds: int = 8) -> None:
    """A token's logits are the same bits whatever runs beside it and however prompts are cut.

    Prompts are prefilled in pieces of two tokens and more, what follows is decoded.
    """
    prompts = make_prompts()
    draw = random.Random(2)
    texts = [p + [draw.randrange(VOCABULARY_SIZE) for _ in range(12)] for p in prompts]
    alone = []
    for prompt, text in zip(prompts, texts, strict=True):
        (sequence,) = make_sequences(runner, [text])
        pieces = [len(prompt)] + [1] * (len(text) - len(prompt))
        alone.append(np.concatenate([run_pieces(runner, [(sequence, n)])[0] for n in pieces]))
    for _ in range(num_rounds):
        for text_values, expected in zip(
            _run_at_random(runner, prompts, texts, draw), alone, strict=True
        ):
            np.testing.assert_array_equal(text_values, expected)


def _run_at_random(
    runner: OpenVinoRunner,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    draw: random.Random,
) -> list[NDArray[np.float32]]:
    sequences = make_sequences(runner, texts)
    values: list[list[NDArray[np.float32]]] = [[] for _ in texts]
    while waiting := [n for n, s in enumerate(sequences) if s.num_past < len(s.ids)]:
        chosen = draw.sample(waiting, draw.randint(1, len(waiting)))
        pieces = []
        for n in chosen:
            missing = len(prompts[n]) - sequences[n].num_past
            count = 1 if missing <= 0 else _piece(missing, draw.randint(2, 90))
            pieces.append((sequences[n], count))
        for n, given in zip(chosen, run_pieces(runner, pieces), strict=True):
            values[n].append(given)
    return [np.concatenate(parts) for parts in values]
