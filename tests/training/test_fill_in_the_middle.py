"""The fill-in-the-middle recipe: its corpus, its format, and a run on a very small budget."""

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from gatehouse.core.errors import Invalid
from gatehouse.training.batches import IGNORED
from gatehouse.training.causal_lm import Budget, Result, Shape
from gatehouse.training.fill_in_the_middle import Recipe, main, save, train
from gatehouse.training.infilling.figures import Score, fill, held_out_gaps, is_python, score
from gatehouse.training.infilling.functions import (
    IDEAS,
    THINGS,
    draw_function,
    is_held_out,
    training_functions,
)
from gatehouse.training.infilling.gaps import Gap, cut_gap
from gatehouse.training.infilling.tokenizer import encode, read_answer, write_prompt

SMALL = Recipe(
    shape=Shape(
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=2,
        num_key_value_heads=1,
        context=512,
    ),
    budget=Budget(steps=20, rows=4, row_length=384),
    tokenizer_functions=300,
)


@pytest.fixture(scope="module")
def result() -> Result:
    return train(SMALL)


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save(result, path)
    return path


def test_every_function_is_python() -> None:
    for function in islice(training_functions(1), 500):
        assert is_python(function.source), function.source
        assert not {"ITEM", "NUM"} & set(function.source.replace("_", " ").split())


def test_held_out_pairs_are_never_trained() -> None:
    trained = {(each.idea, each.thing) for each in islice(training_functions(1), 2000)}
    assert not any(is_held_out(*pair) for pair in trained)
    rng = random.Random(2)
    drawn = [draw_function(rng, held_out=True) for _ in range(50)]
    assert all(is_held_out(each.idea, each.thing) for each in drawn)
    share = sum(is_held_out(idea, thing) for idea in IDEAS for thing in THINGS)
    assert 0.05 < share / (len(IDEAS) * len(THINGS)) < 0.15


def test_a_gap_takes_nothing_away() -> None:
    rng = random.Random(3)
    for _ in range(500):
        source = draw_function(rng).source
        gap = cut_gap(rng, source)
        assert gap.prefix + gap.middle + gap.suffix == source
        assert gap.prefix
        assert gap.middle


def test_prompt_is_code_llamas() -> None:
    assert write_prompt("a = ", "\nb") == "<PRE> a =  <SUF>\nb <MID>"
    assert read_answer("1 <EOT>") == "1"
    assert read_answer("1<EOT>") == "1"
    assert read_answer("1 ") == "1 "


def test_hand_written_prompt_reads_as_it_was_trained(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    gap = Gap("def f(x):\n    return ", "x", "\n")
    trained = encode(tokenizer, gap, is_spaced=True)
    prompt = tokenizer.encode(write_prompt(gap.prefix, gap.suffix))
    assert trained.ids[: len(prompt)] == prompt
    assert tokenizer.decode(trained.ids[len(prompt) :], skip_special_tokens=True) == "x <EOT>"
    assert trained.targets == [IGNORED, *trained.ids[1:]]


def test_tight_format_has_no_spaces(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trained = encode(tokenizer, Gap("a", "b", "c"), is_spaced=False)
    assert tokenizer.decode(trained.ids) == "<s><PRE>a<SUF>c<MID>b<EOT>"


def test_loss_falls_and_the_folder_ends_at_its_mark(result: Result, folder: Path) -> None:
    assert sum(result.losses[-5:]) < sum(result.losses[:5]) - 2
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<EOT>")
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, end]
    assert end < model.config.vocab_size


def test_score_counts_what_it_says() -> None:
    gaps = [Gap("def f(x):\n    return ", "x", "\n"), Gap("a = (", "1", ")\n")]
    assert score(gaps, ["x <EOT>", "1 <EOT>"]) == Score(2, 2, 2, 2)
    assert score(gaps, ["x + 1 <EOT>", "1)"]) == Score(2, 0, 1, 1)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="more than zero"):
        train(replace(SMALL, budget=Budget(steps=0)))


def test_the_command_writes_a_model_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "gatehouse.training.fill_in_the_middle"
    monkeypatch.setattr(f"{path}.Recipe", lambda **given: replace(SMALL, **given))
    monkeypatch.setattr(f"{path}.MEASURED_GAPS", 3)
    main(["--out", str(tmp_path), "--steps", "2", "--seed", "3"])
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "--steps 2 --seed 3" in card
    assert "| | of 3 |" in card
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    answers = fill(model, AutoTokenizer.from_pretrained(tmp_path), held_out_gaps(2, 5))
    assert len(answers) == 2
