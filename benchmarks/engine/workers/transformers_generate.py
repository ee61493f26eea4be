"""`transformers.generate` in bfloat16, batched by hand: who waits is run together, to the end."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.engine.worker import Token, serve


class _Clock(BaseStreamer):  # type: ignore[misc]  # transformers is not typed
    """Notes when each row of tokens was there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class GenerateEngine:
    """An `Engine` whose step is a whole batch."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._waiting: list[tuple[int, Sequence[int], int]] = []

    def add(self, number: int, prompt: Sequence[int], num_tokens: int) -> None:
        self._waiting.append((number, prompt, num_tokens))

    def step(self) -> Iterable[Token]:
        batch, self._waiting = self._waiting, []
        longest = max(len(prompt) for _, prompt, _ in batch)
        token_ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, (_, prompt, _) in enumerate(batch):
            token_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        clock = _Clock()
        given = self._model.generate(
            token_ids,
            attention_mask=mask,
            max_new_tokens=max(num_tokens for _, _, num_tokens in batch),
            do_sample=False,
            pad_token_id=0,
            streamer=clock,
        )
        # The first row that a streamer is given is the prompt.
        rows = zip(clock.times[1:], given[:, longest:].T.tolist(), strict=True)
        return [
            Token(number, token_id, at)
            for at, row in rows
            for (number, _, _), token_id in zip(batch, row, strict=True)
        ]


def load(folder: Path, num_threads: int) -> GenerateEngine:
    torch.set_num_threads(num_threads)
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return GenerateEngine(model.eval())


if __name__ == "__main__":
    serve(load, ["transformers", "torch"])
