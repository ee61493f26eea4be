"""What vLLM is asked, and how what it answers is read. The events are those of vLLM 0.32."""

import json
from typing import Any

import pytest
from tiny_models import make_tokenizer

from gatehouse.engines.base import (
    GenerationRequest,
    Grammar,
    GrammarKind,
    SamplingParams,
    TokensPrompt,
)
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.remote.base import UpstreamFailed, UpstreamMalformed
from gatehouse.engines.text.prompts import PromptReader
from gatehouse.engines.text.requests import RequestReader
from gatehouse.engines.vllm.completions import ReadToken, completion, read_event

DEFAULTS = GenerationDefaults(305, (2, 900), temperature=0.5, top_k=7, top_p=0.0)


def asked(sampling: SamplingParams | None = None, **options: Any) -> dict[str, Any]:
    tokenizer = make_tokenizer(adds_bos=True)
    reader = RequestReader(tokenizer, PromptReader(tokenizer, 128), 128, 305, (2,))
    prompt = TokensPrompt((5, 6, 7))
    request = GenerationRequest(prompt, sampling or SamplingParams(), max_new_tokens=10, **options)
    try:
        return completion(reader.read(1, request), DEFAULTS)
    finally:
        reader.close()


def test_greedy_decoding_asks_for_ids_and_ends_by_ours() -> None:
    assert asked() == {
        "model": "model",
        "prompt": [5, 6, 7],
        "stream": True,
        "max_tokens": 10,
        "logprobs": 0,
        "return_tokens_as_token_ids": True,
        "ignore_eos": True,
        "stop_token_ids": [2],
        "priority": 0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "temperature": 0.0,
    }


def test_sampling_is_said_in_full() -> None:
    body = asked(SamplingParams(do_sample=True, seed=2**64 - 1, min_p=0.1, logit_bias=((3, 2.0),)))
    assert (body["temperature"], body["top_k"], body["min_p"]) == (0.5, 7, 0.1)
    assert 0 < body["top_p"] < 1e-6
    assert body["seed"] == 2**63 - 1
    assert body["logit_bias"] == {"3": 2.0}


def test_a_least_length_counts_the_prompt() -> None:
    assert asked(SamplingParams(min_length=7))["min_tokens"] == 4
    assert asked(SamplingParams(min_length=100))["min_tokens"] == 10
    assert "min_tokens" not in asked(SamplingParams(min_length=3))


def test_a_scope_is_not_told_but_keeps_prompts_apart() -> None:
    one, other = asked(reuse_scope="user 1"), asked(reuse_scope="user 2")
    assert one["cache_salt"] != other["cache_salt"]
    assert "user" not in one["cache_salt"]


def test_grammars_are_lark() -> None:
    def grammar(kind: GrammarKind, text: str = "") -> str:
        body = asked(grammar=Grammar(kind, text))
        assert body["stop_token_ids"] == [2]
        return str(body["structured_outputs"]["grammar"])

    assert grammar(GrammarKind.LARK, 'start: "a"') == 'start: "a"'
    assert grammar(GrammarKind.REGEX, r"\d+") == "start: /[0-9]+/"
    schema = json.loads(
        grammar(GrammarKind.JSON_SCHEMA, '{"type": "array"}').removeprefix("start: %json ")
    )
    assert schema["type"] == "array"
    assert schema["x-guidance"]["whitespace_flexible"] is False
    assert '"object"' in grammar(GrammarKind.JSON_OBJECT)


def test_an_event_gives_ids_and_the_likeliest_without_the_one_that_was_chosen() -> None:
    event = (
        b'{"id":"cmpl-b0e1","object":"text_completion","created":1763771000,"model":"model",'
        b'"choices":[{"index":0,"text":", the","logprobs":{"text_offset":[0,1],'
        b'"token_logprobs":[-2.18,-1.0],"tokens":["token_id:18","token_id:381"],'
        b'"top_logprobs":[{"token_id:18":-2.18,"token_id:7":-0.5,"token_id:9":-0.7},'
        b'{"token_id:381":-1.0,"token_id:5":-1.1,"token_id:4":-9999.0}]},'
        b'"finish_reason":null,"stop_reason":null}]}'
    )
    read = read_event(event, 2)
    assert read.tokens == (
        ReadToken(18, -2.18, ((7, -0.5), (9, -0.7))),
        ReadToken(381, -1.0, ((381, -1.0), (5, -1.1))),
    )
    assert not read.has_ended


def test_the_first_token_of_a_prompt_has_no_score() -> None:
    event = (
        b'{"choices":[{"index":0,"text":"","logprobs":{"text_offset":[0],"token_logprobs":[null],'
        b'"tokens":["token_id:1"],"top_logprobs":[null]},"finish_reason":"length"}]}'
    )
    read = read_event(event, 0)
    assert read.tokens == (ReadToken(1, None, ()),)
    assert read.has_ended


def test_errors_in_the_stream_are_errors() -> None:
    event = b'{"error":{"message":"EngineCore encountered an issue.","code":500}}'
    with pytest.raises(UpstreamFailed, match="EngineCore"):
        read_event(event, 0)


@pytest.mark.parametrize(
    "event",
    [
        b"{",
        b"[]",
        b'{"choices":[{"logprobs":{"tokens":[" the"],"token_logprobs":[-1.0]}}]}',
        b'{"choices":[{"logprobs":{"tokens":["token_id:1"],"token_logprobs":[]}}]}',
    ],
)
def test_what_names_no_token_is_refused(event: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        read_event(event, 0)
