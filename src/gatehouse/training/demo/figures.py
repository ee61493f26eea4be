"""Measures the demo model: greedy answers against the expected ones, seen and held out."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gatehouse.training.demo.corpus import ROLES, Document, draw_story, introduce
from gatehouse.training.demo.exchanges import draw_exchange, is_held_out
from gatehouse.training.demo.facts import CAPITALS
from gatehouse.training.demo.questions import ask_capital
from gatehouse.training.demo.stories import invented_name

_MAX_NEW_TOKENS = 60


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, as the card prints it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and whether it stopped by itself."""

    text: str
    ended: bool


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Document],
    batch_size: int = 32,
) -> list[Answer]:
    """The greedy answer to the last question of each conversation."""
    answers: list[Answer] = []
    for start in range(0, len(documents), batch_size):
        prompts = [
            tokenizer.apply_chat_template(document.messages[:-1], tokenize=False)
            for document in documents[start : start + batch_size]
        ]
        inputs = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
            )
        for ids in output[:, inputs["input_ids"].shape[1] :].tolist():
            ended = tokenizer.eos_token_id in ids
            answers.append(Answer(tokenizer.decode(ids, skip_special_tokens=True), ended))
    return answers


def capital_questions() -> list[Document]:
    """One conversation for each capital in the list."""
    return [Document(exchanges=(ask_capital(country),)) for country in CAPITALS]


def held_out_names(count: int, seed: int) -> list[Document]:
    """Conversations with a name in the system prompt that no training text introduces."""
    rng = random.Random(seed)  # noqa: S311 - a test set, not a secret
    names: list[str] = []
    while len(names) < count:
        name = invented_name(rng)
        if is_held_out(f"name {name}"):
            names.append(name)
    return [introduce(name, rng.choice(ROLES)) for name in names]


def held_out_questions(family: str, count: int, seed: int) -> list[Document]:
    """At most `count` different conversations of compositions that were kept away from training."""
    rng = random.Random(seed)  # noqa: S311 - a test set, not a secret
    found = {}
    for _ in range(count * 10):
        exchange = draw_exchange(rng, family, held_out=True)
        found[exchange.question] = Document(exchanges=(exchange,))
        if len(found) == count:
            break
    return list(found.values())


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Figure]:
    """Every figure of the card."""
    sets = {
        "capitals, plain question": capital_questions(),
        "capitals, held-out wording": held_out_questions("capital", 50, 1),
        "opposites, held-out wording": held_out_questions("opposite", 20, 2),
        "colours, held-out wording": held_out_questions("colour", 10, 3),
        "which animal is bigger, held-out pairs": held_out_questions("bigger", 40, 4),
        "is it a fruit or a tool, held-out pairs": held_out_questions("group", 30, 5),
        "sums to 24 and differences, held-out numbers": held_out_questions("sum", 40, 6),
        "own name from the system prompt, held-out names": held_out_names(40, 7),
    }
    figures, ended, total = [], 0, 0
    for name, documents in sets.items():
        answers = answer(model, tokenizer, documents)
        right = sum(
            each.text == document.exchanges[-1].answer
            for each, document in zip(answers, documents, strict=True)
        )
        ended += sum(each.ended for each in answers)
        total += len(answers)
        figures.append(Figure(name, f"{right} of {len(documents)}"))
    figures.append(Figure("answers that end by themselves", f"{ended} of {total}"))
    for name, held_out in (("trained", False), ("held-out", True)):
        rng = random.Random(8)  # noqa: S311 - a test set, not a secret
        stories = [draw_story(rng, held_out=held_out) for _ in range(60)]
        value = perplexity(model, tokenizer, stories)
        figures.append(
            Figure(
                f"perplexity per token, new stories of {name} pairs of hero and plot",
                f"{value:.2f}",
            )
        )
    return figures


def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> float:
    """Perplexity per token over plain texts."""
    loss, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits.float()
        loss += torch.nn.functional.cross_entropy(
            logits[0, :-1], ids[0, 1:], reduction="sum"
        ).item()
        count += ids.shape[1] - 1
    return math.exp(loss / count)
