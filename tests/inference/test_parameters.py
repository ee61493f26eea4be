"""Bodies of the text-generation surface: defaults, and the sentences that clients match on."""

from typing import Any

import pytest

from gatehouse.engines.base import Grammar, GrammarKind, SamplingParams, TextPrompt
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.parameters import (
    ConversationalRemoved,
    RouteDefaults,
    TextGenerationJob,
    parse_text_generation,
)

ROUTE = RouteDefaults(max_new_tokens=20, return_full_text=True)
CAP = 1000
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}}
SCHEMA_TEXT = '{"type":"object","properties":{"b":{"type":"integer"},"a":{}}}'


def parse(parameters: Any = None, *, is_stream: bool = False, **body: Any) -> TextGenerationJob:
    body = {"inputs": "hello"} | body
    if parameters is not None:
        body["parameters"] = parameters
    return parse_text_generation(body, ROUTE, CAP, is_stream=is_stream)


def test_bare_inputs_are_greedy_with_the_defaults_of_the_route() -> None:
    job = parse()
    assert job.request.sampling == SamplingParams()
    assert job.request.max_new_tokens == 20
    assert job.request.fit_to_context
    assert job.return_full_text
    assert not job.with_details


@pytest.mark.parametrize(
    ("parameters", "do_sample"),
    [
        ({}, False),
        ({"do_sample": True}, True),
        ({"temperature": 0.5}, True),
        ({"temperature": 1.0}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0, "do_sample": True, "top_k": 5}, False),
        ({"top_k": 5}, True),
        ({"top_p": 0.9}, True),
        ({"typical_p": 0.9}, True),
        ({"repetition_penalty": 1.2}, False),
        ({"do_sample": None, "temperature": None, "top_k": None}, False),
    ],
)
def test_sampling_is_asked_for_or_implied(parameters: dict[str, Any], *, do_sample: bool) -> None:
    assert parse(parameters).request.sampling.do_sample is do_sample


@pytest.mark.parametrize(
    ("parameters", "is_stream", "with_logprobs"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"details": True}, False, True),
        ({"decoder_input_details": True}, False, True),
        ({"best_of": 2, "do_sample": True}, False, True),
        ({"num_return_sequences": 2, "do_sample": True}, False, False),
    ],
)
def test_log_probabilities_are_asked_for_where_they_are_shown_or_compared(
    parameters: dict[str, Any], *, is_stream: bool, with_logprobs: bool
) -> None:
    assert parse(parameters, is_stream=is_stream).request.with_logprobs is with_logprobs


def test_null_is_absent_and_unknown_keys_are_ignored() -> None:
    names = ("best_of", "details", "max_new_tokens", "seed", "stop", "truncate", "watermark")
    nothing = dict.fromkeys(names)
    assert parse(nothing | {"parameters": {"x": 1}, "presence_penalty": 3}) == parse({})


def test_everything_lands_where_it_belongs() -> None:
    job = parse(
        {
            "max_new_tokens": 7.0,
            "return_full_text": False,
            "details": True,
            "stop": ["a"],
            "stop_sequences": ["b", ""],
            "seed": 2**64 - 1,
            "truncate": 3,
            "top_n_tokens": 2,
            "max_time": 5,
            "decoder_input_details": True,
            "num_return_sequences": 3,
        }
    )
    request = job.request
    assert request.prompt == TextPrompt("hello", 3)
    assert (request.max_new_tokens, request.fit_to_context) == (7, False)
    assert (request.stop, request.keep_stop) == (("a", "b"), True)
    assert request.sampling.seed == 2**64 - 1
    assert (request.num_top_tokens, request.prompt_details) == (2, True)
    assert request.max_seconds == 5
    assert (job.num_sequences, job.with_details, job.return_full_text) == (3, True, False)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"best_of": 3, "do_sample": True}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        (
            {"best_of": 2, "do_sample": True, "seed": 1},
            "`seed` must not be set when `best_of` > 1",
        ),
        ({"temperature": -1}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 3}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"max_new_tokens": 1001}, "`max_new_tokens` must be <= 1000 on your plan. Given: 1001"),
        ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"adapter_id": "x"}, "`adapter_id` must name a repository, such as `org/name`"),
        ({"grammar": {"type": "json", "value": 3}}, "grammar is not supported"),
        (
            {"grammar": {"type": "json", "value": {}}},
            "grammar is not valid: Grammar must have a 'properties' field",
        ),
        # The grammar is looked at last.
        ({"grammar": {"type": "json", "value": 3}, "top_n_tokens": 9}, "`top_n_tokens` must be"),
        # The first broken rule wins.
        ({"max_new_tokens": 0, "top_p": 2, "temperature": -1}, "`temperature` must be"),
    ],
)
def test_refusals_use_the_sentences_that_clients_know(
    parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse(parameters)
    assert refused.value.message.startswith(f"Input validation error: {sentence}")
    assert refused.value.error_type == "validation"


@pytest.mark.parametrize("inputs", ["", [], [""], None, 3, {"x": "x"}, ["a", 1], ["a"] * 5])
def test_inputs_must_be_text(inputs: Any) -> None:
    with pytest.raises(ValidationFailed, match=r"`inputs`|batch size"):
        parse(inputs=inputs)


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        "x",
        {"temperature": "hot"},
        {"temperature": True},
        {"temperature": float("nan")},
        {"temperature": 10**400},
        {"top_k": 2**40},
        {"max_new_tokens": 1.5},
        {"seed": -1},
        {"seed": 2**64},
        {"do_sample": 1},
        {"stop": [1]},
        {"stop": ["x" * 2000]},
        {"max_time": 121},
        {"num_return_sequences": 11},
        {"watermark": 1},
        {"truncate": "all"},
        {"best_of": 10**6},
        {"seed": 2**80},
        {"max_new_tokens": 2**31},
        {"top_p": 1e-400},
        {"grammar": "json"},
    ],
)
def test_wrong_types_and_ranges_are_refused(parameters: Any) -> None:
    with pytest.raises(ValidationFailed):
        parse(parameters)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"best_of": 2, "do_sample": True},
            "`best_of` != 1 is not supported when streaming tokens",
        ),
        (
            {"decoder_input_details": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationFailed, match=sentence):
        parse(parameters, is_stream=True)


def test_watermark_is_accepted_and_changes_nothing() -> None:
    assert parse({"watermark": True}) == parse({})


@pytest.mark.parametrize(
    ("sent", "grammar"),
    [
        ({"type": "regex", "value": "a+"}, Grammar(GrammarKind.REGEX, "a+")),
        ({"type": "json_object"}, Grammar(GrammarKind.JSON_OBJECT)),
        ({"type": "json", "value": SCHEMA}, Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT)),
        ({"type": "json_object", "value": SCHEMA}, Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT)),
        ({"type": "json", "value": SCHEMA_TEXT}, Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT)),
        (
            {"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}},
            Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT),
        ),
        (
            {"type": "json", "value": {"properties": SCHEMA["properties"]}},
            Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT),
        ),
        ({"type": "text"}, None),
    ],
)
def test_grammars_are_read_in_every_form(sent: dict[str, Any], grammar: Grammar | None) -> None:
    assert parse({"grammar": sent}).request.grammar == grammar


@pytest.mark.parametrize(
    "sent",
    [
        [],
        {},
        {"type": "lark", "value": "x"},
        {"type": "regex"},
        {"type": "regex", "value": {}},
        {"type": "json", "value": "{"},
        {"type": "json", "value": "[" * 100_000},
        {"type": "json_schema", "value": {"name": "x"}},
        {"type": "json_schema", "value": []},
    ],
)
def test_what_is_no_grammar_is_refused(sent: Any) -> None:
    with pytest.raises(ValidationFailed, match=r"grammar is not"):
        parse({"grammar": sent})


def test_conversations_of_the_old_task_are_told_where_to_go() -> None:
    with pytest.raises(ConversationalRemoved, match="chat/completions"):
        parse(inputs={"text": "hi", "past_user_inputs": []})


def test_only_one_prompt_can_be_streamed() -> None:
    assert parse(inputs=["a"], is_stream=True).is_batch
    with pytest.raises(ValidationFailed, match="`inputs` must be a string when streaming"):
        parse(inputs=["a", "b"], is_stream=True)


def test_max_length_counts_the_prompt() -> None:
    request = parse({"max_length": 50}).request
    assert request.max_total_tokens == 50
    assert request.max_new_tokens == CAP
