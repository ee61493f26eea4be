"""Adapters: whatever the bytes, they are read right or refused in a sentence."""

import itertools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gatehouse.engines.llm.adapter_config import (
    AdapterConfig,
    AdapterInvalid,
    parse_adapter_config,
)
from gatehouse.engines.llm.adapter_files import LinearShape, read_adapter
from gatehouse.engines.llm.adapter_rows import AdapterRows

_json = st.sampled_from(
    [None, True, 0, 1, -1, 2**70, 1e308, "", "none", "all", [], [1], {}, {"a": 1}]
)
_OTHERS = ("use_rslora", "use_dora", "bias", "modules_to_save", "init_lora_weights")
_fields = st.fixed_dictionaries(
    {"peft_type": st.sampled_from(["LORA", "lora", "IA3"]) | _json},
    optional={
        "r": st.integers(-1, 300) | _json,
        "lora_alpha": st.integers(-(10**7), 10**7) | st.floats() | _json,
        "alpha_pattern": st.dictionaries(st.text("ab.^(+*", max_size=5), st.floats() | _json)
        | _json,
        **dict.fromkeys(_OTHERS, _json),
    },
)
_LAYERS = {"a.b": LinearShape(3, 5), "a.c": LinearShape(4, 4)}
_modules = st.sampled_from(["a.b", "a.c", "a.d", "transformer.a.b"])
_names = st.builds(
    "{}{}.lora_{}{}.weight".format,
    st.sampled_from(["base_model.model.", "base_model.model.", ""]),
    _modules,
    st.sampled_from("AABBC"),
    st.sampled_from(["", ".default", ".x.y"]),
)
_shapes = st.sampled_from([(2, 3), (5, 2), (2, 4), (4, 2), (0, 3), (5, 0), (3,), ()])


@given(st.binary(max_size=100) | _fields.map(lambda fields: json.dumps(fields).encode()))
def test_any_configuration_is_read_or_refused(data: bytes) -> None:
    try:
        config = parse_adapter_config(data)
    except AdapterInvalid:
        return
    assert config.bias == "none"
    assert not config.use_dora
    for module in ("a", "x.a", "x.b"):
        assert math.isfinite(config.scale(module, 3))


@given(
    st.dictionaries(
        _names, st.tuples(_shapes, st.sampled_from([np.float32, np.float16, np.int8])), max_size=4
    )
)
def test_any_tensors_fit_the_layers_or_are_refused(
    tensors: dict[str, tuple[tuple[int, ...], type]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        arrays: dict[str, NDArray[Any]] = {
            name: np.ones(shape, kind) for name, (shape, kind) in tensors.items()
        }
        save_file(arrays, folder / "adapter_model.safetensors")
        try:
            adapter = read_adapter(folder, _LAYERS)
        except AdapterInvalid:
            return
    assert adapter.pairs
    assert len(arrays) == 2 * len(adapter.pairs)
    for layer, pair in adapter.pairs.items():
        assert pair.down.shape == (pair.rank, _LAYERS[layer].num_in)
        assert pair.up.shape == (pair.rank, _LAYERS[layer].num_out)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 70), st.booleans()), max_size=40))
def test_rows_are_never_shared_nor_taken_from_who_holds_them(
    steps: list[tuple[int, int, bool]],
) -> None:
    rows = AdapterRows(128)
    held: dict[int, tuple[int, int]] = {}
    for key, rank, lets_go in steps:
        if key in held and lets_go:
            rows.release(key)
            del held[key]
            continue
        place = rows.hold(key)
        if place is None:
            assert key not in held
            place = rows.allocate(key, rank)
            if place is None:
                continue
            assert place[1] - place[0] >= rank
        elif key in held:
            rows.release(key)
        assert held.setdefault(key, place) == place
        assert 0 <= place[0] < place[1] <= rows.num_used <= 128
        spans = sorted(held.values())
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_rows_that_nobody_holds_are_always_found() -> None:
    rows = AdapterRows(64)
    assert rows.allocate("a", 33) == (0, 48)
    assert rows.allocate("b", 16) == (48, 64)
    assert rows.allocate("c", 1) is None
    rows.release("b")
    rows.release("a")
    assert rows.hold("b") == (48, 64)  # used last, so the other one goes
    rows.release("b")
    assert rows.allocate("c", 32) == (0, 32)
    assert rows.hold("a") is None
    assert rows.allocate("d", 17) == (32, 64)
    assert rows.hold("b") is None


def test_pattern_names_the_end_of_a_path() -> None:
    patterns = {"b.c": 2.0, "^a.c": 3.0, "c": 4.0}
    config = AdapterConfig("LORA", lora_alpha=8.0, alpha_pattern=patterns)
    modules = ("x.b.c", "xb.c", "a.c", "d")
    assert [config.scale(module, 1) for module in modules] == [2.0, 4.0, 3.0, 8.0]
