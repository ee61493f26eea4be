"""Quantized weights: near the stored ones whatever those are, and copies read right or refused."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm.quantization import (
    Layout,
    QuantizedMatrix,
    layout_of,
    quantize,
    quantized_rows,
)
from gatehouse.engines.llm.quantized_copy import CopyBroken, CopyWriter, QuantizedCopy
from gatehouse.engines.llm.weights import StoredTensor, WeightsBroken

_formats = st.sampled_from([WeightFormat.INT8, WeightFormat.INT4])
_shapes = st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3, 31, 32, 33, 64, 96, 128]))
_EXPONENTS = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
_TINY = float(np.finfo(np.float32).tiny)


@st.composite
def _tensors(draw: st.DrawFn, *, finite: bool = True) -> StoredTensor:
    """Any bits at all, or any of finite numbers."""
    dtype = draw(st.sampled_from(list(_EXPONENTS)))
    bits_type: Any = np.uint32 if dtype == "F32" else np.uint16
    exponent = bits_type(_EXPONENTS[dtype])
    bits = draw(arrays.arrays(bits_type, draw(_shapes)))
    if finite:
        bits = np.where((bits & exponent) == exponent, bits & ~exponent, bits)
    if dtype != "BF16":
        bits = bits.view(np.float32 if dtype == "F32" else np.float16)
    return StoredTensor(dtype, bits.shape, 0, np.ascontiguousarray(bits))


@given(_tensors(), _formats)
def test_quantized_weights_are_within_a_step_of_the_stored(
    tensor: StoredTensor, weight_format: WeightFormat
) -> None:
    layout = layout_of(tensor.shape, weight_format)
    matrix = quantize("w", tensor, layout)
    assert matrix.shape == tensor.shape
    groups = _grouped(tensor.floats(), layout)
    farthest = np.abs(groups).max(2, keepdims=True)
    steps, share = (127, 0.5) if layout.num_bits == 8 else (8, 1.0)
    bound = farthest * (share / steps * 1.0001) + 200 * _TINY
    assert (np.abs(_grouped(matrix.floats(), layout) - groups) <= bound).all()


@given(_tensors(finite=False), _formats)
def test_what_is_no_finite_number_is_refused_and_nothing_else(
    tensor: StoredTensor, weight_format: WeightFormat
) -> None:
    layout = layout_of(tensor.shape, weight_format)
    if np.isfinite(tensor.floats()).all():
        assert np.isfinite(quantize("w", tensor, layout).floats()).all()
    else:
        with pytest.raises(WeightsBroken):
            list(quantized_rows("w", tensor, layout))


_matrices = st.dictionaries(
    st.text('a.é"', min_size=1, max_size=4),
    st.tuples(_tensors(), _formats),
    min_size=1,
    max_size=3,
)


@given(_matrices)
def test_what_was_written_is_read(matrices: dict[str, tuple[StoredTensor, WeightFormat]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        _write(path, matrices)
        copy = QuantizedCopy(path, "key")
        for name, (tensor, weight_format) in matrices.items():
            layout = layout_of(tensor.shape, weight_format)
            _check_equal(copy.get(name, layout), quantize(name, tensor, layout))


@given(_matrices, st.data())
def test_a_changed_copy_is_refused_or_gives_what_was_written(
    matrices: dict[str, tuple[StoredTensor, WeightFormat]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        _write(path, matrices)
        path.write_bytes(_changed(path.read_bytes(), data))
        _read_or_refuse(path, matrices)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        path.write_bytes(content)
        with pytest.raises(CopyBroken):
            QuantizedCopy(path, "key")


def _write(path: Path, matrices: dict[str, tuple[StoredTensor, WeightFormat]]) -> None:
    sources = {name: tensor for name, (tensor, _) in matrices.items()}
    with CopyWriter(path.parent, sources) as writer:
        for name, (tensor, weight_format) in matrices.items():
            layout = layout_of(tensor.shape, weight_format)
            _check_equal(writer.add(name, tensor, layout), quantize(name, tensor, layout))
        writer.finish("key")
        writer.publish(path)


def _changed(content: bytes, data: st.DataObject) -> bytes:
    """With some bytes exchanged, added or left out: of the header mostly, where they matter."""
    end = data.draw(st.sampled_from([8, 400, len(content)]))
    begin = data.draw(st.integers(0, min(end, len(content)) - 1))
    length = data.draw(st.integers(0, 3))
    return content[:begin] + data.draw(st.binary(max_size=3)) + content[begin + length :]


def _read_or_refuse(path: Path, matrices: dict[str, tuple[StoredTensor, WeightFormat]]) -> None:
    try:
        copy = QuantizedCopy(path, "key")
    except CopyBroken:
        return
    for name, (tensor, weight_format) in matrices.items():
        layout = layout_of(tensor.shape, weight_format)
        _check_equal(copy.get(name, layout), quantize(name, tensor, layout))


def _grouped(array: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    return array.reshape(*layout.scales_shape, layout.group_size)


def _check_equal(matrix: QuantizedMatrix | None, expected: QuantizedMatrix) -> None:
    assert matrix is not None
    np.testing.assert_array_equal(matrix.values, expected.values)
    np.testing.assert_array_equal(matrix.scales, expected.scales)
