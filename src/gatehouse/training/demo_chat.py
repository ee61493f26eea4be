"""Recipe: train the demo model from scratch on synthetic English and save it as a repository.

Run it as `python -m gatehouse.training.demo_chat --out DIR --minutes 30 --seed 0`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gatehouse.core.errors import Invalid
from gatehouse.training.demo.batches import Batch, pack
from gatehouse.training.demo.card import Facts, write_card
from gatehouse.training.demo.corpus import training_documents
from gatehouse.training.demo.figures import measure
from gatehouse.training.demo.tokenizer import (
    CHAT_TEMPLATE,
    IGNORED,
    all_text,
    encode,
    train_tokenizer,
)

_WARMUP_STEPS: Final = 30
_FINAL_RATE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what comes out.

    Attributes:
        steps: Optimizer steps; when given, the same seed gives the same model (same machine).
        minutes: Wall-clock minutes, used when `steps` is None.
        rows, row_length: Tokens of one step, as rows of packed documents.
    """

    seed: int = 0
    steps: int | None = None
    minutes: float = 30.0
    threads: int = 1
    hidden_size: int = 256
    intermediate_size: int = 640
    num_layers: int = 4
    num_heads: int = 4
    num_key_value_heads: int = 2
    context: int = 1024
    vocab_size: int = 2048
    tokenizer_documents: int = 20_000
    rows: int = 16
    row_length: int = 256
    learning_rate: float = 8e-3


@dataclass(slots=True)
class Result:
    """What a training run made. `losses` holds one value per step, in nats per target token."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    losses: list[float] = field(default_factory=list)
    num_tokens: int = 0


Report = Callable[[float, str], None]


def train(recipe: Recipe, report: Report = lambda _fraction, _text: None) -> Result:
    """Train a model.

    Args:
        recipe: What to train and for how long.
        report: Called after each step with the part that is done (0 to 1) and a line of text.

    Raises:
        Invalid: A budget that is not positive.
    """
    if (recipe.minutes if recipe.steps is None else recipe.steps) <= 0:
        raise Invalid("`steps` or `minutes` must be more than zero.")
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    sample = islice(training_documents(recipe.seed), recipe.tokenizer_documents)
    tokenizer = train_tokenizer(map(all_text, sample), recipe.vocab_size)
    model = _build_model(recipe, tokenizer)
    result = Result(model, tokenizer)
    optimizers = _optimizers(model, recipe.learning_rate)
    started = time.monotonic()
    for step, batch in enumerate(_batches(recipe, tokenizer)):
        done = _fraction_done(recipe, step, time.monotonic() - started)
        if done >= 1:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _rate(step, done)
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


def save(result: Result, folder: Path) -> None:
    """Write `result` to `folder` as `from_pretrained` reads it, the weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    result.model.to(torch.bfloat16).save_pretrained(folder)
    result.tokenizer.save_pretrained(folder)
    _serve_older_clients(folder / "tokenizer_config.json")


def _serve_older_clients(tokenizer_config: Path) -> None:
    """Keep class and template where transformers 4 and Transformers.js look for them."""
    values = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    values |= {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE}
    tokenizer_config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_key_value_heads,
        max_position_embeddings=recipe.context,
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


def _batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    # Another seed than the tokenizer's sample, so that no text is favoured.
    documents = training_documents(recipe.seed + 1)
    examples = (encode(tokenizer, document) for document in documents)
    return pack(examples, rows=recipe.rows, row_length=recipe.row_length)


def _fraction_done(recipe: Recipe, step: int, seconds: float) -> float:
    if recipe.steps is not None:
        return step / recipe.steps
    return seconds / (recipe.minutes * 60)


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


def _facts(recipe: Recipe, result: Result) -> Facts:
    return Facts(
        seed=recipe.seed,
        steps=len(result.losses),
        num_tokens=result.num_tokens,
        num_parameters=sum(each.numel() for each in result.model.parameters()),
        num_layers=recipe.num_layers,
        hidden_size=recipe.hidden_size,
        context=recipe.context,
        vocab_size=len(result.tokenizer),
    )


def _parse(arguments: list[str] | None) -> tuple[Path, Recipe]:
    usual = Recipe()
    parser = argparse.ArgumentParser(description="Train the demo model of Gatehouse.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, help="wall-clock minutes to train"
    )
    parser.add_argument("--steps", type=int, help="train exactly this many steps instead")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--threads", type=int, default=usual.threads)
    given = parser.parse_args(arguments)
    recipe = Recipe(
        seed=given.seed, steps=given.steps, minutes=given.minutes, threads=given.threads
    )
    return given.out, recipe


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, and write the model with its card."""
    folder, recipe = _parse(arguments)
    console = Console()
    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=1.0)
        result = train(
            recipe, lambda done, text: progress.update(task, completed=done, description=text)
        )
        progress.update(task, completed=1.0)
    save(result, folder)
    console.print(f"{len(result.losses)} steps, {result.num_tokens:,} tokens. Measuring …")
    figures = measure(result.model, result.tokenizer)
    for figure in figures:
        console.print(f"  {figure.name}: {figure.text}")
    write_card(folder, _facts(recipe, result), figures)
    console.print(f"Saved to {folder}.")


if __name__ == "__main__":
    main()
