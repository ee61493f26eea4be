"""Headers of weight files: whatever the bytes, they are read right or refused."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.llm.weights import WeightsBroken, parse_header

_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}
_shapes = st.lists(st.integers(0, 5), max_size=4)
_tensors = st.dictionaries(
    st.text("abc.", min_size=1, max_size=6), st.tuples(st.sampled_from(list(_SIZES)), _shapes)
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(_tensors)
def test_what_fills_the_file_is_read(tensors: dict[str, tuple[str, list[int]]]) -> None:
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * _SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    entries = parse_header(json.dumps(header).encode(), end)
    assert {name: (entry.dtype, list(entry.shape)) for name, entry in entries.items()} == tensors


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_are_read_or_refused(header: bytes, size: int) -> None:
    _read_or_refuse(header, size)


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BF16", "U8", "X"]) | _json,
                "shape": st.lists(st.integers(-3, 2**70), max_size=3) | _json,
                "data_offsets": st.lists(st.integers(-9, 99), min_size=2, max_size=2) | _json,
            }
        )
        | _json,
        max_size=4,
    ),
    st.integers(0, 100),
)
def test_any_entries_are_read_or_refused(header: dict[str, object], size: int) -> None:
    _read_or_refuse(json.dumps(header).encode(), size)


def _read_or_refuse(header: bytes, size: int) -> None:
    try:
        entries = parse_header(header, size)
    except WeightsBroken:
        return
    spans = sorted(entry.data_offsets for entry in entries.values())
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert sum(end - begin for begin, end in spans) == size
