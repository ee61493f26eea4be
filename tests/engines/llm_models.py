"""Tiny random checkpoints of decoder families, and what transformers makes of them.

The weights are drawn wide, so that greedy decoding wanders instead of repeating one token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from gatehouse.engines.llm.runner import Batch, ModelRunner

VOCABULARY_SIZE = 320
CONTEXT_LENGTH = 256

_SHAPE = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT_LENGTH,
    "initializer_range": 0.12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def save_decoder(
    folder: Path, model_type: str, *, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """A random model of the family; `changes` go over the usual tiny shape in its config.

    Norms and biases are drawn too: as initialised they are ones and zeros, and would hide a norm
    or a bias that is left out.
    """
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(_SHAPE | changes))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embed" in name and not config.tie_word_embeddings:
                parameter.mul_(3)
    model.to(dtype).save_pretrained(folder)
    return folder


class Reference:
    """The same model in transformers, in fp32."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """After every token; of shape (num_tokens, vocabulary)."""
        with torch.inference_mode():
            values: NDArray[np.float32] = self._model(torch.tensor([ids])).logits[0].numpy()
        return values

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The next `count` tokens, whichever they are."""
        output = self._model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return [int(token) for token in output[0, len(prompt) :]]


class Running:
    """Tokens of one sequence, how many of them were run, and its blocks."""

    def __init__(self, ids: Sequence[int], block_ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.block_ids = list(block_ids)
        self.num_past = 0


def make_batch(pieces: Sequence[tuple[Running, int]], block_size: int) -> Batch:
    """The next so many tokens of each sequence; logits after all of them."""
    ids: list[int] = []
    positions: list[int] = []
    blocks: list[int] = []
    begins, block_begins = [0], [0]
    for sequence, count in pieces:
        end = sequence.num_past + count
        ids += sequence.ids[sequence.num_past : end]
        positions += range(sequence.num_past, end)
        blocks += sequence.block_ids[: -(-end // block_size)]
        begins.append(len(ids))
        block_begins.append(len(blocks))
    return Batch(
        token_ids=np.array(ids, np.int64),
        positions=np.array(positions, np.int64),
        num_past=np.array([sequence.num_past for sequence, _ in pieces], np.int32),
        begins=np.array(begins, np.int32),
        block_ids=np.array(blocks, np.int32),
        block_begins=np.array(block_begins, np.int32),
        rows=np.arange(len(ids), dtype=np.int64),
    )


def run_pieces(
    runner: ModelRunner, pieces: Sequence[tuple[Running, int]]
) -> list[NDArray[np.float32]]:
    """Run the next tokens of each sequence; the logits after each of them, by sequence."""
    batch = make_batch(pieces, runner.block_size)
    values = runner.run(batch).values.copy()
    for sequence, count in pieces:
        sequence.num_past += count
    return np.split(values, batch.begins[1:-1])
