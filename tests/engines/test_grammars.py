"""Text that must match a grammar, and grammars that must not hold anybody up."""

import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from generating import Answer, ask, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from gatehouse.engines.base import (
    Finish,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    RefusalKind,
    RequestRefused,
    SamplingParams,
    TextPrompt,
)
from gatehouse.engines.grammars import compiler
from gatehouse.engines.grammars.compiler import GrammarCompiler
from gatehouse.engines.pipelines.text_generation import TextGenerationEngine, load_text_generation

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,6}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "grün", "青"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
RANDOMLY = SamplingParams(do_sample=True, temperature=1.5, seed=11)


def regex(text: str) -> Grammar:
    return Grammar(GrammarKind.REGEX, text)


def schema(value: Any) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(value, ensure_ascii=False))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def engine(
    request: pytest.FixtureRequest, llama_folder: Path, gpt2_folder: Path
) -> Iterator[TextGenerationEngine]:
    with loaded(llama_folder if request.param == "llama" else gpt2_folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> Iterator[TextGenerationEngine]:
    with loaded(llama_folder) as engine:
        yield engine


@contextmanager
def loaded(folder: Path) -> Iterator[TextGenerationEngine]:
    engine = load_text_generation(folder)
    yield engine
    engine.unload()


def is_person(text: str) -> bool:
    value = json.loads(text)
    return (
        set(value) == {"name", "age", "tags"}
        and re.fullmatch("[A-Z][a-z]{1,6}", value["name"]) is not None
        and 0 <= value["age"] <= 150
        and len(value["tags"]) <= 2
        and set(value["tags"]) <= {"red", "grün", "青"}
    )


@pytest.mark.parametrize("sampling", [SamplingParams(), RANDOMLY], ids=["greedy", "sampled"])
def test_text_matches_the_schema_and_then_ends(
    engine: TextGenerationEngine, sampling: SamplingParams
) -> None:
    request = ask("a person:", 110, grammar=schema(PERSON), sampling=sampling)
    (answer,) = run(engine, [request])
    assert is_person(answer.text)
    assert answer.finish == Finish(FinishReason.EOS_TOKEN, len(answer.ids))
    assert answer.ids[-1] == 2


def test_any_object_is_a_json_object(llama: TextGenerationEngine) -> None:
    requests = [
        ask(
            "the cat",
            100,
            grammar=Grammar(GrammarKind.JSON_OBJECT),
            sampling=SamplingParams(do_sample=True, seed=seed),
        )
        for seed in range(6)
    ]
    whole = [
        answer.text
        for answer in run(llama, requests)
        if answer.finish and answer.finish.reason is FinishReason.EOS_TOKEN
    ]
    assert whole
    assert all(isinstance(json.loads(text), dict) for text in whole)


def test_text_matches_the_regex_across_token_borders(engine: TextGenerationEngine) -> None:
    pattern = r"(hello|the cat) wor[a-z]{2}, naïve 日本 \d{3}-\d{2}"
    for prompt in ("hello", "while", "日本語"):
        (answer,) = run(engine, [ask(prompt, 60, grammar=regex(pattern))])
        assert re.fullmatch(pattern, answer.text)
        assert answer.finish is not None
        assert answer.finish.reason is FinishReason.EOS_TOKEN


def test_lark_grammar_may_hold_a_schema(llama: TextGenerationEngine) -> None:
    text = 'start: "<call>" %json {"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false} "</call>"'  # noqa: E501
    (answer,) = run(llama, [ask("x", 60, grammar=Grammar(GrammarKind.LARK, text))])
    match = re.fullmatch("<call>(.*)</call>", answer.text, re.DOTALL)
    assert match
    assert set(json.loads(match[1])) == {"n"}


def test_end_is_allowed_only_where_the_grammar_may_end(llama_folder: Path, tmp_path: Path) -> None:
    # A model that wants nothing but the end.
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head = torch.nn.Linear(64, model.config.vocab_size, bias=True)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.zero_()
        model.lm_head.bias[2] = 5.0
    with loaded(folder) as engine:
        engine._model.lm_head = model.lm_head.to(torch.bfloat16)
        assert run(engine, [ask("x")])[0].ids == [2]
        (answer,) = run(engine, [ask("x", 20, grammar=regex("[ab]{3}[ab]*"))])
    assert re.fullmatch("[ab]{3}", answer.text)
    assert answer.ids[-1] == 2


def test_eight_with_grammars_give_what_one_alone_gives(llama: TextGenerationEngine) -> None:
    grammars = [schema(PERSON), regex("[a-z ]{5,30}"), regex("(the|a) (cat|dog)"), None]
    requests = [
        ask(prompt, 60, grammar=grammar, sampling=sampling)
        for grammar in grammars
        for prompt, sampling in (("the cat", SamplingParams()), ("hello", RANDOMLY))
    ]
    alone = [run(llama, [request])[0].ids for request in requests]
    assert [answer.ids for answer in run(llama, requests)] == alone
    assert len({tuple(ids) for ids in alone}) > 4


def test_logits_of_padding_are_never_chosen(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    size = model.config.vocab_size
    torch.manual_seed(5)
    model.resize_token_embeddings(size + 59)
    model.save_pretrained(folder)
    requests = [
        ask("x", 90, grammar=schema(PERSON), sampling=SamplingParams(do_sample=True, seed=seed))
        for seed in range(3)
    ]
    with loaded(folder) as engine:
        answers = run(engine, requests)
    assert all(is_person(answer.text) for answer in answers)
    assert all(max(answer.ids) < size for answer in answers)


def test_narrow_sampling_chooses_among_what_is_allowed(llama: TextGenerationEngine) -> None:
    sampling = SamplingParams(do_sample=True, seed=1, top_k=1)
    (answer,) = run(llama, [ask("x", 20, grammar=regex("(cat|dog|hill)"), sampling=sampling)])
    assert answer.text in {"cat", "dog", "hill"}
    sampling = SamplingParams(do_sample=True, seed=1, top_p=0.01, min_p=0.9, typical_p=0.1)
    (answer,) = run(llama, [ask("x", 20, grammar=regex("(cat|dog|hill)"), sampling=sampling)])
    assert answer.text in {"cat", "dog", "hill"}


def test_grammar_wins_over_a_rule_that_forbids_the_end(llama: TextGenerationEngine) -> None:
    sampling = SamplingParams(min_length=15)
    (answer,) = run(llama, [ask("x", 20, grammar=regex("cat"), sampling=sampling)])
    assert answer.text == "cat"


def test_bias_cannot_break_a_grammar(llama: TextGenerationEngine) -> None:
    sampling = SamplingParams(logit_bias=((5, 1000.0), (2, 1000.0)))
    (answer,) = run(llama, [ask("x", 20, grammar=regex("cat"), sampling=sampling)])
    assert answer.text == "cat"


DEEP: Any = {"type": "integer"}
for _ in range(200):
    DEEP = {"type": "array", "items": DEEP}
CHAIN = "\n".join(f"a{n}: a{n + 1}" for n in range(20_000))
BAD = {
    "unclosed": (regex("(a"), "unclosed group"),
    "look-ahead": (regex("(?=a)b"), "look-around"),
    "surrogate": (regex("\ud800"), "surrogate"),
    "too long": (regex("a" * 200_000), "longer than"),
    "unfolding": (regex("(a{1000}){1000}"), "too much time or memory"),
    "huge count": (regex("a{1000000000}"), "too much time or memory"),
    "many brackets": (regex("(" * 2000 + "a" + ")" * 2000), "nested"),
    "matches nothing": (regex(r"[^\x00-\U0010FFFF]"), "no text matches"),
    "multiple": (schema({"type": "integer", "multipleOf": 999_983}), "too much time or memory"),
    "multiple of pairs": (
        schema({"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 9967}]}),
        "too much",
    ),
    "own reference": (schema({"$ref": "#"}), "no text matches"),
    "reference elsewhere": (schema({"$ref": "http://127.0.0.1:9/a"}), "not present"),
    "file": (schema({"$ref": "file:///etc/passwd"}), "not present"),
    "deep": (schema(DEEP), "nested deeper"),
    "very deep": (Grammar(GrammarKind.JSON_SCHEMA, "[" * 60_000), "nested deeper"),
    "no JSON": (Grammar(GrammarKind.JSON_SCHEMA, "{'a': 1}"), "not JSON"),
    "no object": (schema([1]), "must be an object"),
    "unknown type": (schema({"type": "nonesuch"}), "nonesuch"),
    "contradiction": (schema({"type": "integer", "minimum": 5, "maximum": 4}), ""),
    "alternatives": (
        schema(
            {
                "allOf": [
                    {"anyOf": [{"type": "object", "properties": {f"p{n}": {"const": m}}}] * 3}
                    for n in range(16)
                    for m in range(2)
                ]
            }
        ),
        "too",
    ),
    "stack": (Grammar(GrammarKind.LARK, f"start: a0\n{CHAIN}\na20000: /x/"), ""),
    "lark": (Grammar(GrammarKind.LARK, "start: nowhere"), "nowhere"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_grammars_are_refused_in_bounded_time(llama: TextGenerationEngine, name: str) -> None:
    grammar, why = BAD[name]
    llama.add(1, ask("the cat", 100))
    begin = time.process_time()
    with pytest.raises(RequestRefused) as refused:
        llama.add(2, ask("x", 20, grammar=grammar))
    assert time.process_time() - begin < 2  # of this process; the check has its own limit
    assert refused.value.kind is RefusalKind.VALIDATION
    sentence = refused.value.message
    assert sentence.startswith("Input validation error: grammar is not valid: ")
    assert why in sentence
    assert len(sentence) < 400
    assert "\n" not in sentence
    assert [output.request_id for output in llama.step()] == [1]
    llama.cancel(1)
    llama.step()


def test_grammar_that_grows_while_it_runs_breaks_only_itself(llama: TextGenerationEngine) -> None:
    # Harmless for eight characters, which is what the check tries.
    bomb = regex("[a-z]{12}(b{1000}){1000}")
    requests = [ask("x", 100, grammar=bomb), ask("the cat", 100)]
    for number, request in enumerate(requests):
        llama.add(number, request)
    failed: list[int] = []
    finished: list[int] = []
    begin = time.process_time()
    while llama.has_work():
        for output in llama.step():
            failed += [output.request_id] if output.failure else []
            finished += [output.request_id] if output.finish else []
    assert finished == [1]
    assert failed == [0]
    assert time.process_time() - begin < 10
    assert llama.budget.num_allocated == 0


def test_compiled_grammars_are_kept_within_bounds(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_text_generation(llama_folder)
    grammars: GrammarCompiler = engine._reader._grammars
    monkeypatch.setattr(compiler, "MAX_COMPILED", 3)
    for number in range(6):
        grammars.matcher(regex(f"a{{{number + 1}}}"))
    assert len(grammars._compiled) == 3
    monkeypatch.setattr(compiler, "MAX_COMPILED_BYTES", grammars.num_bytes // 2)
    grammars.matcher(regex("b"))
    assert len(grammars._compiled) < 3
    assert grammars.num_bytes == sum(one.num_bytes for one in grammars._compiled.values())
    monkeypatch.setattr(compiler, "MAX_REFUSED", 2)
    for number in range(4):
        with pytest.raises(RequestRefused):
            engine.add(number, ask("x", grammar=regex("(" * (number + 1))))
    assert len(grammars._refused) == 2
    engine.unload()


def test_known_grammars_are_not_checked_again(
    llama: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammars: GrammarCompiler = llama._reader._grammars
    grammars.matcher(regex("known"))
    with pytest.raises(RequestRefused):
        llama.add(1, ask("x", grammar=regex("(known")))
    monkeypatch.setattr(grammars._checks, "check", None)
    assert run(llama, [ask("x", grammar=regex("known"))])[0].text == "known"
    with pytest.raises(RequestRefused, match="unclosed group"):
        llama.add(1, ask("x", grammar=regex("(known")))


def test_checking_process_that_died_is_started_again(llama: TextGenerationEngine) -> None:
    grammars: GrammarCompiler = llama._reader._grammars
    grammars.matcher(regex("first"))
    process = grammars._checks._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(RequestRefused, match="could not be checked"):
        llama.add(1, ask("x", grammar=regex("second")))
    assert run(llama, [ask("x", grammar=regex("second"))])[0].text == "second"


def test_sequences_of_one_grammar_do_not_share_their_place(llama: TextGenerationEngine) -> None:
    grammar = regex("(one|two|three) (four|five) [0-9]{4}")
    requests = [
        GenerationRequest(
            prompt=TextPrompt("x"),
            max_new_tokens=40,
            grammar=grammar,
            sampling=SamplingParams(do_sample=True, temperature=5.0, seed=seed),
        )
        for seed in range(8)
    ]
    texts = [answer.text for answer in run(llama, requests)]
    assert all(re.fullmatch("(one|two|three) (four|five) [0-9]{4}", text) for text in texts)
    assert len(set(texts)) > 4


WORDS = st.sampled_from(["a", "cat", "/", "[a-c]", "é", "日", r"\d", "(x|yz)", " ", "the "])
PATTERNS = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        inner.map(lambda text: f"({text}){{1,3}}"),
        inner.map(lambda text: f"({text})?"),
    ),
    max_leaves=6,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pattern=PATTERNS, seed=st.integers(0, 2**64 - 1))
def test_whatever_ends_matches_its_regex(
    llama: TextGenerationEngine, pattern: str, seed: int
) -> None:
    sampling = SamplingParams(do_sample=True, temperature=2.0, seed=seed)
    answer: Answer = run(llama, [ask("x", 100, grammar=regex(pattern), sampling=sampling)])[0]
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.EOS_TOKEN
    assert re.fullmatch(pattern, answer.text)


def test_logprobs_are_the_models_own(llama: TextGenerationEngine) -> None:
    plain = run(llama, [ask("the cat", 1, num_top_tokens=5)])[0]
    (answer,) = run(llama, [ask("the cat", 1, num_top_tokens=5, grammar=regex("[0-9]{9}"))])
    assert answer.tokens[0].top == plain.tokens[0].top
    assert answer.tokens[0].token.logprob is not None
    assert math.isfinite(answer.tokens[0].token.logprob)
