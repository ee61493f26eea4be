"""Whatever a `generation_config.json` holds, it is read or refused in one sentence."""

import json
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.base import ModelNotLoadable, SamplingParams
from gatehouse.engines.llm.generation_defaults import GenerationDefaults, load_generation_defaults
from gatehouse.engines.llm.runner import Logits
from gatehouse.engines.llm.sampler import NumbersNotFinite, SamplingState, choose

SIZE = 40
NAMES = [
    *(field.name for field in fields(GenerationDefaults)),
    "eos_token_id",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_eos_token_id",
    "no_repeat_ngram_size",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, SIZE + 2)
    | st.integers()
    | st.floats(0, 1.5)
    | st.floats()
    | st.text(max_size=3)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
ids = st.integers(0, SIZE - 1)
likely = values | st.lists(ids, max_size=5) | st.lists(st.lists(ids, min_size=1, max_size=3))


def load(content: bytes) -> GenerationDefaults | None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "generation_config.json").write_bytes(content)
        try:
            return load_generation_defaults(Path(folder), SIZE)
        except ModelNotLoadable as error:
            message = error.message
    assert folder not in message
    return None


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    load(content)


@given(st.dictionaries(st.sampled_from(NAMES), likely, max_size=6), st.booleans())
def test_what_is_read_can_be_sampled_with(own: dict[str, Any], do_sample: bool) -> None:
    defaults = load(json.dumps(own).encode())
    if defaults is None:
        return
    row = np.linspace(-4, 4, SIZE, dtype=np.float32)
    logits = Logits.of(row[None])
    state = SamplingState(SamplingParams(), defaults, [1, 2], 3 if do_sample else None, 3)
    for _ in range(3):
        try:
            choice = choose(logits, 0, state, 2)
        except NumbersNotFinite:
            assert defaults.bad_words or defaults.suppressed_ids or defaults.begin_suppressed_ids
            return
        assert 0 <= choice.token_id < SIZE
        assert choice.token_id not in defaults.suppressed_ids
