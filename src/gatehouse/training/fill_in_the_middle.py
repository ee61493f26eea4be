"""Recipe: train a small fill-in-the-middle model from scratch on made-up Python functions.

Run it as `python -m gatehouse.training.fill_in_the_middle --out DIR --minutes 40 --seed 0`.
"""

import argparse
import random
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
from gatehouse.training.infilling.card import write_card
from gatehouse.training.infilling.figures import fill, held_out_gaps, score
from gatehouse.training.infilling.functions import training_functions
from gatehouse.training.infilling.gaps import cut_gap
from gatehouse.training.infilling.tokenizer import END, encode, train_tokenizer

MEASURED_GAPS = 200
MEASURED_SEED = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what comes out.

    Attributes:
        spaced_share: How many of the prompts are written as people write them.
    """

    seed: int = 0
    shape: Shape = field(default_factory=lambda: Shape(context=512))
    budget: Budget = field(default_factory=lambda: Budget(minutes=40.0, row_length=384, rows=8))
    vocab_size: int = 640
    tokenizer_functions: int = 5_000
    spaced_share: float = 0.7


def train(recipe: Recipe, report: Report = lambda _fraction, _text: None) -> Result:
    """Train a model. See `causal_lm.train`.

    Raises:
        Invalid: A budget that is not positive.
    """
    recipe.budget.require_positive()
    sample = islice(training_functions(recipe.seed), recipe.tokenizer_functions)
    texts = (function.source for function in sample)
    tokenizer = train_tokenizer(texts, recipe.vocab_size, recipe.shape.context)
    examples = _examples(recipe, tokenizer)
    result = train_model(tokenizer, examples, recipe.shape, recipe.budget, recipe.seed, report)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)]
    result.model.generation_config.eos_token_id = ends
    return result


def save(result: Result, folder: Path) -> None:
    """Write `result` to `folder` as `from_pretrained` reads it, the weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    result.model.to(torch.bfloat16).save_pretrained(folder)
    result.tokenizer.save_pretrained(folder)


def _examples(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Example]:
    rng = random.Random(recipe.seed)  # noqa: S311 - a corpus, not a secret
    # Another seed than the tokenizer's sample, so that no text is favoured.
    for function in training_functions(recipe.seed + 1):
        gap = cut_gap(rng, function.source)
        yield encode(tokenizer, gap, is_spaced=rng.random() < recipe.spaced_share)


def _parse(arguments: list[str] | None) -> tuple[Path, Recipe]:
    usual = Recipe().budget
    parser = argparse.ArgumentParser(description="Train a small fill-in-the-middle model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, help="wall-clock minutes to train"
    )
    parser.add_argument("--steps", type=int, help="train exactly this many steps instead")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    given = parser.parse_args(arguments)
    budget = Budget(given.steps, given.minutes, rows=usual.rows, row_length=usual.row_length)
    return given.out, Recipe(seed=given.seed, budget=budget)


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, and write the model with its card."""
    folder, recipe = _parse(arguments)
    console = Console()
    result = train_with_progress(lambda report: train(recipe, report), console)
    save(result, folder)
    console.print(f"{len(result.losses)} steps, {result.num_tokens:,} tokens. Measuring …")
    gaps = held_out_gaps(MEASURED_GAPS, MEASURED_SEED)
    measured = score(gaps, fill(result.model, result.tokenizer, gaps))
    console.print(f"  {measured}")
    write_card(folder, result, recipe.shape, recipe.seed, measured)
    console.print(f"Saved to {folder}.")


if __name__ == "__main__":
    main()
