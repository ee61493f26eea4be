"""Measures a fill-in-the-middle model on functions that were held out of training."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gatehouse.training.infilling.functions import draw_function
from gatehouse.training.infilling.gaps import Gap, cut_gap
from gatehouse.training.infilling.tokenizer import END, read_answer, write_prompt

_MAX_NEW_TOKENS: Final = 96


@dataclass(frozen=True, slots=True)
class Score:
    """How many of `count` gaps were filled.

    Attributes:
        exact: With the very text that was cut out.
        compiles: So that the whole is a Python program.
        ended: With the mark at the end of the answer.
    """

    count: int
    exact: int
    compiles: int
    ended: int


def held_out_gaps(count: int, seed: int) -> list[Gap]:
    """Gaps in functions of pairs that training never sees."""
    rng = random.Random(seed)  # noqa: S311 - a test set, not a secret
    return [cut_gap(rng, draw_function(rng, held_out=True).source) for _ in range(count)]


def fill(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, gaps: Sequence[Gap], batch: int = 16
) -> list[str]:
    """The greedy answer for each gap, with the mark that ends it."""
    answers: list[str] = []
    for start in range(0, len(gaps), batch):
        prompts = [write_prompt(gap.prefix, gap.suffix) for gap in gaps[start : start + batch]]
        inputs = tokenizer(prompts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
            )
        new_ids = output[:, inputs["input_ids"].shape[1] :].tolist()
        answers += tokenizer.batch_decode(new_ids, skip_special_tokens=True)
    return answers


def score(gaps: Sequence[Gap], answers: Sequence[str]) -> Score:
    """Compare answers with what was cut out."""
    filled = [(gap, read_answer(answer)) for gap, answer in zip(gaps, answers, strict=True)]
    return Score(
        count=len(gaps),
        exact=sum(middle == gap.middle for gap, middle in filled),
        compiles=sum(is_python(gap.prefix + middle + gap.suffix) for gap, middle in filled),
        ended=sum(answer.endswith(END) for answer in answers),
    )


def is_python(source: str) -> bool:
    """Whether the text can be compiled; it is not run."""
    try:
        compile(source, "<filled>", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
