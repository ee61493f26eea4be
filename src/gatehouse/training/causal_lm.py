"""Trains a small Llama-shaped model from scratch on a CPU, whatever it is to learn.

Recipes bring the tokenizer and a stream of examples; this knows neither where text comes from nor
what a model is good for.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gatehouse.core.errors import Invalid
from gatehouse.training.batches import IGNORED, Batch, Example, pack

_WARMUP_STEPS: Final = 30
_FINAL_RATE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model. `context` is counted in tokens."""

    hidden_size: int = 256
    intermediate_size: int = 640
    num_layers: int = 4
    num_heads: int = 4
    num_key_value_heads: int = 2
    context: int = 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """How long and how fast to train.

    Attributes:
        steps: Optimizer steps; when given, the same seed gives the same model (same machine).
        minutes: Wall-clock minutes, used when `steps` is None.
        rows, row_length: Tokens of one step, as rows of packed documents.
    """

    steps: int | None = None
    minutes: float = 30.0
    threads: int = 1
    rows: int = 16
    row_length: int = 256
    learning_rate: float = 8e-3

    def require_positive(self) -> None:
        """Return if there is something to train.

        Raises:
            Invalid: `steps` or `minutes` is not more than zero.
        """
        if (self.minutes if self.steps is None else self.steps) <= 0:
            raise Invalid("`steps` or `minutes` must be more than zero.")

    def fraction_done(self, step: int, seconds: float) -> float:
        if self.steps is not None:
            return step / self.steps
        return seconds / (self.minutes * 60)


@dataclass(slots=True)
class Result:
    """What a training run made. `losses` holds one value per step, in nats per target token."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    losses: list[float] = field(default_factory=list)
    num_tokens: int = 0

    @property
    def num_parameters(self) -> int:
        return sum(each.numel() for each in self.model.parameters())


Report = Callable[[float, str], None]


def train(
    tokenizer: PreTrainedTokenizerFast,
    examples: Iterable[Example],
    shape: Shape,
    budget: Budget,
    seed: int,
    report: Report,
) -> Result:
    """Train a model from scratch.

    Args:
        tokenizer: Its special tokens become those of the model.
        examples: Never ending, or long enough for the budget.
        shape: Of the model.
        budget: When to stop.
        seed: Of the first weights.
        report: Called after each step with the part that is done (0 to 1) and a line of text.

    Raises:
        Invalid: A budget that is not positive.
    """
    budget.require_positive()
    torch.set_num_threads(budget.threads)
    torch.manual_seed(seed)
    model = _build_model(shape, tokenizer)
    result = Result(model, tokenizer)
    optimizers = _optimizers(model, budget.learning_rate)
    started = time.monotonic()
    for step, batch in enumerate(pack(examples, rows=budget.rows, row_length=budget.row_length)):
        done = budget.fraction_done(step, time.monotonic() - started)
        if done >= 1:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = budget.learning_rate * _rate(step, done)
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        result.losses.append(loss.item())
        result.num_tokens += batch.ids.numel()
        report(done, f"step {step + 1}, loss {result.losses[-1]:.3f}")
    model.eval()
    return result


def train_with_progress(run: Callable[[Report], Result], console: Console) -> Result:
    """Call `run` with a report that moves a progress bar."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=1.0)
        result = run(lambda done, text: progress.update(task, completed=done, description=text))
        progress.update(task, completed=1.0)
    return result


def _build_model(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        # On a CPU eager attention trains faster than the fused one at this size.
        attn_implementation="eager",
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)
    return model


def _optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, which learns faster here; AdamW for the rest."""
    inner = [each for each in model.model.layers.parameters() if each.ndim == 2]
    known = {id(each) for each in inner}
    outer = [each for each in model.parameters() if id(each) not in known]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.95), weight_decay=0.01),
    ]


def _rate(step: int, done: float) -> float:
    """Share of the learning rate: a short warm-up, level for a third, then down in a line."""
    falling = max(_FINAL_RATE, min(1.0, (1 - done) / 0.65))
    return min(falling, (step + 1) / _WARMUP_STEPS)


def _loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the targets; logits are computed only where there is one."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            input_ids=batch.ids, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        wanted = batch.targets != IGNORED
        logits = model.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits.float(), batch.targets[wanted])
