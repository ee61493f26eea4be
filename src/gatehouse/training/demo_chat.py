"""Recipe: train the demo model from scratch on synthetic English and save it as a repository.

Run it as `python -m gatehouse.training.demo_chat --out DIR --minutes 30 --seed 0`.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from gatehouse.training.batches import Example
from gatehouse.training.causal_lm import Budget, Report, Result, Shape, train_with_progress
from gatehouse.training.causal_lm import train as train_model
from gatehouse.training.demo.card import Facts, write_card
from gatehouse.training.demo.corpus import training_documents
from gatehouse.training.demo.figures import measure
from gatehouse.training.demo.tokenizer import CHAT_TEMPLATE, all_text, encode, train_tokenizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what comes out."""

    seed: int = 0
    shape: Shape = field(default_factory=Shape)
    budget: Budget = field(default_factory=Budget)
    vocab_size: int = 2048
    tokenizer_documents: int = 20_000


def train(recipe: Recipe, report: Report = lambda _fraction, _text: None) -> Result:
    """Train a model. See `causal_lm.train`.

    Raises:
        Invalid: A budget that is not positive.
    """
    recipe.budget.require_positive()
    sample = islice(training_documents(recipe.seed), recipe.tokenizer_documents)
    tokenizer = train_tokenizer(map(all_text, sample), recipe.vocab_size)
    examples = _examples(recipe, tokenizer)
    return train_model(tokenizer, examples, recipe.shape, recipe.budget, recipe.seed, report)


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


def _examples(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Example]:
    # Another seed than the tokenizer's sample, so that no text is favoured.
    documents = training_documents(recipe.seed + 1)
    return (encode(tokenizer, document) for document in documents)


def _facts(recipe: Recipe, result: Result) -> Facts:
    return Facts(
        seed=recipe.seed,
        steps=len(result.losses),
        num_tokens=result.num_tokens,
        num_parameters=result.num_parameters,
        num_layers=recipe.shape.num_layers,
        hidden_size=recipe.shape.hidden_size,
        context=recipe.shape.context,
        vocab_size=len(result.tokenizer),
    )


def _parse(arguments: list[str] | None) -> tuple[Path, Recipe]:
    usual = Budget()
    parser = argparse.ArgumentParser(description="Train the demo model of Gatehouse.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, help="wall-clock minutes to train"
    )
    parser.add_argument("--steps", type=int, help="train exactly this many steps instead")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--threads", type=int, default=usual.threads)
    given = parser.parse_args(arguments)
    budget = Budget(steps=given.steps, minutes=given.minutes, threads=given.threads)
    return given.out, Recipe(seed=given.seed, budget=budget)


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, and write the model with its card."""
    folder, recipe = _parse(arguments)
    console = Console()
    result = train_with_progress(lambda report: train(recipe, report), console)
    save(result, folder)
    console.print(f"{len(result.losses)} steps, {result.num_tokens:,} tokens. Measuring …")
    figures = measure(result.model, result.tokenizer)
    for figure in figures:
        console.print(f"  {figure.name}: {figure.text}")
    write_card(folder, _facts(recipe, result), figures)
    console.print(f"Saved to {folder}.")


if __name__ == "__main__":
    main()
