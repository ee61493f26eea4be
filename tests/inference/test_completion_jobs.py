"""Bodies of completions: prompts in every form, numbers in range, TGI's names at the root."""

from typing import Any

import pytest

from gatehouse.engines.base import GrammarKind, InfillPrompt, TextPrompt, TokensPrompt
from gatehouse.inference.completions.jobs import CompletionJob, parse_completion
from gatehouse.inference.errors import ValidationFailed

CAP = 500


def parse(**body: Any) -> CompletionJob:
    return parse_completion({"prompt": "hello"} | body, CAP, priority=2)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", (TextPrompt("a"),)),
        (["a", "b"], (TextPrompt("a"), TextPrompt("b"))),
        ([1, 2, 3], (TokensPrompt((1, 2, 3)),)),
        ([[1, 2], [3]], (TokensPrompt((1, 2)), TokensPrompt((3,)))),
        ([[1], "a"], (TokensPrompt((1,)), TextPrompt("a"))),
    ],
)
def test_prompts_are_read_in_every_form(prompt: Any, prompts: tuple[Any, ...]) -> None:
    assert parse(prompt=prompt).prompts == prompts


@pytest.mark.parametrize(
    "prompt",
    [None, "", [], [""], [[]], 3, True, {}, [1, "a"], [-1], [2**31], [True], [1.5], [[1], [None]]],
)
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(ValidationFailed, match="`prompt`"):
        parse(prompt=prompt)


def test_too_many_prompts_are_refused_in_tgis_words() -> None:
    sentence = "Number of prompts exceeds the maximum allowed batch size of 4"
    with pytest.raises(ValidationFailed, match=sentence):
        parse(prompt=["a"] * 5)


@pytest.mark.parametrize(
    ("fields", "with_logprobs"),
    [
        ({}, False),
        ({"stream": True}, False),
        ({"logprobs": 0}, True),
        ({"n": 2}, False),
        ({"n": 2, "best_of": 3}, True),
    ],
)
def test_log_probabilities_are_asked_for_where_they_are_shown_or_compared(
    fields: dict[str, Any], *, with_logprobs: bool
) -> None:
    assert parse(**fields).request.with_logprobs is with_logprobs


def test_defaults_are_those_of_openai() -> None:
    job = parse()
    assert job.request.sampling.do_sample
    assert (job.request.max_new_tokens, job.request.fit_to_context) == (CAP, True)
    assert not job.request.keep_stop
    assert (job.num_choices, job.best_of, job.echo, job.num_logprobs) == (1, 1, False, None)
    assert job.request.priority == 2
    assert parse(temperature=0).request.sampling.do_sample is False
    assert parse(do_sample=False).request.sampling.do_sample is False


def test_names_of_tgi_are_taken_at_the_root() -> None:
    job = parse(
        max_new_tokens=7,
        stop_sequences=["x"],
        details=True,
        truncate=5,
        return_full_text=True,
        watermark=True,
        grammar={"type": "regex", "value": "a"},
        repetition_penalty=1.1,
    )
    assert job.request.max_new_tokens == 7
    assert job.request.stop == ("x",)
    assert job.with_details
    assert job.prompts == (TextPrompt("hello", 5),)
    assert job.request.grammar is not None
    assert job.request.grammar.kind is GrammarKind.REGEX
    assert job.request.sampling.repetition_penalty == 1.1


def test_suffix_is_filled_in_between() -> None:
    job = parse(prompt=["a", "b"], suffix="z")
    assert job.prompts == (InfillPrompt("a", "z"), InfillPrompt("b", "z"))
    assert parse(suffix="").prompts == (TextPrompt("hello"),)
    with pytest.raises(ValidationFailed, match="`suffix` needs"):
        parse(prompt=[1, 2], suffix="z")


def test_each_sequence_of_a_seed_has_its_own() -> None:
    requests = parse(prompt=["a", "b"], n=2, best_of=3, seed=2**64 - 1).requests()
    assert [request.sampling.seed for request in requests] == [2**64 - 1, 0, 1] * 2
    assert [request.prompt for request in requests] == [TextPrompt("a")] * 3 + [TextPrompt("b")] * 3
    assert parse(n=2, best_of=3, max_tokens=10).num_new_tokens == 30


def test_prompt_is_scored_where_nothing_is_generated() -> None:
    job = parse(prompt=[1, 2], echo=True, logprobs=1, max_tokens=0)
    assert job.request.max_new_tokens == 0
    assert job.request.prompt_details
    assert job.request.num_top_tokens == 1
    assert not parse(echo=True).request.prompt_details
    assert parse(prompt=[1], echo=True).request.prompt_details


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"max_tokens": 0}, "`max_tokens` must be strictly positive, or 0 with `echo`"),
        ({"max_tokens": -1}, "`max_tokens` must be strictly positive"),
        ({"max_tokens": 501}, "`max_tokens` must be <= 500 on your plan. Given: 501"),
        ({"n": 0}, "`n` must be >= 1"),
        ({"n": 11}, "`n` must be <= 10"),
        ({"best_of": 10**6}, "`best_of` must be > 0 and <= 10. Given: 1000000"),
        ({"n": 3, "best_of": 2}, "`best_of` must be >= `n`"),
        ({"best_of": 2, "stream": True}, "not supported when streaming tokens"),
        ({"logprobs": 21}, "`logprobs` must be <= 20"),
        ({"logprobs": "all"}, "`logprobs` must be an integer"),
        ({"suffix": 3}, "`suffix` must be a string"),
        ({"suffix": "z", "echo": True, "logprobs": 1}, "`echo` with `logprobs`"),
        ({"temperature": 1e999}, "`temperature` must be a finite number"),
        ({"temperature": True}, "`temperature` must be a number"),
        ({"seed": 2**80}, "`seed` must be <="),
        ({"stream": 1}, "`stream` must be a boolean"),
        ({"echo": "yes"}, "`echo` must be a boolean"),
        ({"stop": ["a"] * 5}, "`stop` supports up to 4"),
        ({"response_format": {"type": "xml"}}, "grammar is not valid"),
    ],
)
def test_wrong_fields_are_named(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse(**body)
    assert sentence in refused.value.message


def test_null_is_absent_and_unknown_keys_are_ignored() -> None:
    names = ("max_tokens", "suffix", "n", "best_of", "logprobs", "stop", "stream", "seed", "echo")
    assert parse(**dict.fromkeys(names), user="x", whatever={"a": 1}) == parse()
    assert parse(n=2, best_of=1).best_of == 2
    assert parse(logprobs=False).num_logprobs is None
