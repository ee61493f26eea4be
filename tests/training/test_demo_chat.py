"""The recipe on a very small budget: everything but the quality."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gatehouse.core.errors import Invalid
from gatehouse.training.batches import IGNORED, Example, pack
from gatehouse.training.causal_lm import Budget, Result, Shape
from gatehouse.training.demo.corpus import Document, introduce
from gatehouse.training.demo.questions import Exchange
from gatehouse.training.demo.tokenizer import encode
from gatehouse.training.demo_chat import Recipe, main, save, train

SMALL = Recipe(
    shape=Shape(
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=2,
        num_key_value_heads=1,
    ),
    budget=Budget(steps=25, rows=4),
    vocab_size=600,
    tokenizer_documents=300,
)


@pytest.fixture(scope="module")
def result() -> Result:
    return train(SMALL)


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save(result, path)
    return path


def test_the_loss_falls(result: Result) -> None:
    assert len(result.losses) == 25
    assert sum(result.losses[-5:]) < sum(result.losses[:5]) - 2
    assert result.num_tokens == 25 * 4 * 256


def test_the_same_seed_and_steps_give_the_same_losses(result: Result) -> None:
    again = train(SMALL)
    assert again.losses == pytest.approx(result.losses, abs=0.05)


def test_the_folder_loads_and_generates(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype is torch.bfloat16
    inputs = tokenizer("Once upon a time", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == tokenizer.bos_token_id
    output = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert output.shape[1] > inputs["input_ids"].shape[1]


def test_the_template_renders_what_was_trained(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first, second = Exchange("Who are you? ", "Mira."), Exchange("What is 2 + 3?", "5.")
    document = Document(exchanges=(first, second), system="You are Mira.")
    text = tokenizer.apply_chat_template(document.messages, tokenize=False)
    assert text == (
        "<s>[INST] <<SYS>>\nYou are Mira.\n<</SYS>>\n\nWho are you? [/INST]Mira.</s>"
        "<s>[INST] What is 2 + 3? [/INST]5.</s>"
    )
    trained = encode(
        tokenizer, replace(document, exchanges=(Exchange("Who are you?", "Mira."), second))
    )
    assert tokenizer.apply_chat_template(document.messages, return_dict=False) == trained.ids
    answers = [token for token in trained.targets if token != IGNORED]
    assert tokenizer.decode(answers) == "Mira.</s>5.</s>"


def test_older_clients_find_class_and_template(folder: Path) -> None:
    values = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert values["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert values["chat_template"] == (folder / "chat_template.jinja").read_text(encoding="utf-8")


def test_the_template_refuses_two_questions_in_a_row(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = {"role": "user", "content": "Hello"}
    with pytest.raises(Exception, match="must alternate"):
        tokenizer.apply_chat_template([question, question], tokenize=False)


def test_text_of_any_script_survives_the_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Zażółć gęślą jaźń, 東京 🦉\n\tHello  world!"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_packing_keeps_documents_apart() -> None:
    examples = [Example([1, 5 + n, 2], [IGNORED, 5 + n, 2]) for n in range(9)]
    batch = next(pack(examples, rows=2, row_length=7))
    assert batch.ids.tolist() == [[1, 5, 2, 1, 6, 2, 0], [1, 7, 2, 1, 8, 2, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 2, 0]] * 2
    assert batch.targets[0].tolist() == [5, 2, IGNORED, 6, 2, IGNORED, IGNORED]


def test_packed_documents_do_not_see_each_other(result: Result) -> None:
    document = introduce("Mira", "a robot")
    example = encode(result.tokenizer, document)
    batch = next(pack([example] * 40, rows=1, row_length=len(example.ids) * 3))
    with torch.inference_mode():
        hidden = result.model.float().model(
            input_ids=batch.ids, position_ids=batch.positions, use_cache=False
        )
    thirds = hidden.last_hidden_state[0].chunk(3)
    assert torch.allclose(thirds[0], thirds[2], atol=1e-4)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="more than zero"):
        train(replace(SMALL, budget=Budget(steps=0)))
    with pytest.raises(Invalid, match="more than zero"):
        train(replace(SMALL, budget=Budget(minutes=-1.0)))


def test_minutes_end_the_training() -> None:
    short = train(replace(SMALL, budget=Budget(minutes=0.05, rows=4)))
    assert 0 < len(short.losses) < 500


def test_the_command_writes_a_model_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "gatehouse.training.demo_chat.Recipe", lambda **given: replace(SMALL, **given)
    )
    monkeypatch.setattr("gatehouse.training.demo.figures._MAX_NEW_TOKENS", 4)
    main(["--out", str(tmp_path), "--steps", "2", "--seed", "3"])
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-generation" in card
    assert "--steps 2 --seed 3" in card
    assert "| capitals, plain question |" in card
    assert "2 steps" in capsys.readouterr().out
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.hidden_size == 64
