"""Whatever vLLM streams is read, or refused as what it is."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.remote.base import UpstreamFailed, UpstreamMalformed
from gatehouse.engines.vllm.completions import read_event

NAMES = ["choices", "logprobs", "tokens", "token_logprobs", "top_logprobs", "error", "token_id:7"]
JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from([*NAMES, "token_id:3", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, JSON, JSON)
def test_any_event_gives_tokens_or_an_error_of_the_server(
    names: Any, scores: Any, top: Any
) -> None:
    logprobs = {"tokens": names, "token_logprobs": scores, "top_logprobs": top}
    event = json.dumps({"choices": [{"logprobs": logprobs}]}).encode()
    with contextlib.suppress(UpstreamMalformed, UpstreamFailed):
        for token in read_event(event, 2).tokens:
            assert token.id >= 0
            assert len(token.top) <= 2


@given(st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_tokens_or_an_error_of_the_server(event: bytes) -> None:
    with contextlib.suppress(UpstreamMalformed, UpstreamFailed):
        assert read_event(event, 2).tokens == ()
