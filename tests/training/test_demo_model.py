"""The demo model as it is committed: what a visitor sees."""

import re
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from gatehouse.training.demo.corpus import Document
from gatehouse.training.demo.figures import answer, capital_questions, held_out_questions
from gatehouse.training.demo.questions import Exchange

FOLDER = Path(str(resources.files("gatehouse.server"))) / "demo_models" / "storyteller"
MAX_BYTES = 8_000_000


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(FOLDER)


def _continue(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    max_new_tokens: int = 200,
    **options: Any,
) -> tuple[str, bool]:
    inputs = tokenizer(text, return_tensors="pt")
    output = model.generate(
        **inputs, max_new_tokens=max_new_tokens, **{"do_sample": False, **options}
    )[0]
    ended = output[-1].item() == tokenizer.eos_token_id
    return tokenizer.decode(output, skip_special_tokens=True), ended


def _assert_reads_as_text(text: str, num_words: int) -> None:
    words = re.findall(r"[^\s\"“”.,!?;:]+", text)
    assert len(words) >= num_words
    assert all(re.fullmatch(r"[A-Za-z]+(?:['-][A-Za-z]+)*", word) for word in words), text
    grams = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    assert max(grams.values()) < 3, text


def test_the_folder_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
    } < files.keys()
    assert {"tokenizer.json", "tokenizer_config.json"} < files.keys()
    assert sum(files.values()) < MAX_BYTES


def test_the_card_describes_the_model_and_its_gate() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "apache-2.0"
    assert matter["pipeline_tag"] == "text-generation"
    assert matter["library_name"] == "transformers"
    assert matter["language"] == "en"
    assert len(matter["extra_gated_fields"]) == 2
    assert all(matter[f"extra_gated_{key}"] for key in ("heading", "prompt", "button_content"))
    assert "It is a toy" in body


def test_it_knows_its_capitals(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    documents = capital_questions()
    answers = answer(model, tokenizer, documents)
    right = [
        each.text == document.exchanges[0].answer
        for each, document in zip(answers, documents, strict=True)
    ]
    assert len(documents) >= 50
    assert sum(right) >= 0.9 * len(documents)
    assert all(each.ended for each in answers)


def test_it_answers_wordings_it_was_not_trained_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    documents = held_out_questions("capital", 40, seed=1)
    answers = answer(model, tokenizer, documents)
    right = [
        each.text == document.exchanges[0].answer
        for each, document in zip(answers, documents, strict=True)
    ]
    assert sum(right) >= 0.9 * len(documents)


@pytest.mark.parametrize(
    ("system", "question", "expected"),
    [
        ("", "Who are you?", "I am the Gatehouse demo model, a very small language model."),
        (
            "You are Nora, the guide of this house.",
            "Who are you?",
            "I am Nora, the guide of this house.",
        ),
        ("", "What is the opposite of hot?", "The opposite of hot is cold."),
        ("", "what colour is grass", "Grass is green."),
    ],
)
def test_it_answers_easy_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    system: str,
    question: str,
    expected: str,
) -> None:
    document = Document(exchanges=(Exchange(question, ""),), system=system)
    assert answer(model, tokenizer, [document])[0].text == expected


@pytest.mark.parametrize(
    "start", ["Once upon a time", "The gate opened and", "It was a dark night, and"]
)
def test_its_greedy_text_reads_as_language_and_ends(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, start: str
) -> None:
    text, ended = _continue(model, tokenizer, start)
    assert text.startswith(start)
    assert ended
    _assert_reads_as_text(text, 60 if start == "Once upon a time" else 20)


def test_its_sampled_stories_differ_and_read_as_language(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"do_sample": True, "temperature": 0.7}
    stories = [_continue(model, tokenizer, "Once upon a time", **options) for _ in range(4)]
    assert len({text for text, _ in stories}) == 4
    for text, ended in stories:
        assert ended
        _assert_reads_as_text(text, 50)
