"""Bodies of the inference routes: whatever is sent is read or refused, and never anything else."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatehouse.core.errors import Invalid
from gatehouse.http.json_bodies import BodyInvalid, decode_json
from gatehouse.inference.completions.jobs import parse_completion
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.grammars import read_grammar
from gatehouse.inference.parameters import RouteDefaults, parse_text_generation

CAP = 100
NUMBERS = st.one_of(
    st.integers(-5, 5), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
_WORDS = """
adapter_id best_of decoder_input_details details do_sample frequency_penalty grammar max_length
max_new_tokens max_time min_length num_return_sequences repetition_penalty return_full_text seed
stop stop_sequences temperature top_k top_n_tokens top_p truncate typical_p watermark
"""
_MORE_WORDS = """
echo logit_bias logprobs max_tokens min_p n presence_penalty response_format stream stream_options
suffix
"""
PARAMETERS = _WORDS.split()
COMPLETION_KEYS = [*PARAMETERS, *_MORE_WORDS.split()]
GRAMMARS = st.fixed_dictionaries(
    {"type": st.sampled_from(["json", "json_object", "json_schema", "regex", "text", "x"])},
    optional={"value": VALUES, "json_schema": VALUES},
)


def some_of(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), VALUES | GRAMMARS, max_size=6)


@given(VALUES | st.just("hello"), some_of(PARAMETERS) | VALUES, st.booleans())
def test_text_generation_is_a_job_within_limits_or_refused(
    inputs: Any, parameters: Any, is_stream: bool
) -> None:
    body = {"inputs": inputs, "parameters": parameters}
    defaults = RouteDefaults(20, return_full_text=True)
    try:
        job = parse_text_generation(body, defaults, CAP, is_stream=is_stream)
    except Invalid:
        return
    assert 1 <= job.request.max_new_tokens <= CAP
    assert 1 <= len(job.prompts) <= 4
    assert all(job.prompts)
    assert job.num_new_tokens <= CAP * 4 * 10 * 2


@given(VALUES | st.just("hello"), some_of(COMPLETION_KEYS))
def test_completion_is_a_job_within_limits_or_refused(prompt: Any, keys: dict[str, Any]) -> None:
    try:
        job = parse_completion({**keys, "prompt": prompt}, CAP)
    except ValidationFailed:
        return
    assert 0 <= job.request.max_new_tokens <= CAP
    assert len(job.requests()) == len(job.prompts) * job.best_of <= 40
    assert 1 <= job.num_choices <= job.best_of


@given(GRAMMARS | VALUES)
def test_grammar_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(ValidationFailed):
        grammar = read_grammar(value)
        assert grammar is None or isinstance(grammar.text, str)


@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        value = decode_json(data)
    except (BodyInvalid, ValidationFailed):
        return
    assert decode_json(json.dumps(value).encode()) == value
