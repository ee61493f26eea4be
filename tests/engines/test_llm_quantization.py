"""Weights in 8 and 4 bits: the numbers, and the graphs that run on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_checks import check_law, default_runner, exact_runner, make_prompts, make_sequences
from llm_models import run_pieces, save_decoder
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm.openvino_runner import OpenVinoRunner
from gatehouse.engines.llm.quantization import QuantizedMatrix, layout_of, quantize
from gatehouse.engines.llm.weights import StoredTensor, WeightsBroken

_FORMATS = [WeightFormat.INT8, WeightFormat.INT4]

# Several groups in the width of all matrices but those that attention's values go through.
_SHAPE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 384, "initializer_range": 0.07}


def _draw(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _stored(array: NDArray[Any], dtype: str = "F32") -> StoredTensor:
    return StoredTensor(dtype, array.shape, 0, array)


def _quantized(
    array: NDArray[Any], weight_format: WeightFormat, dtype: str = "F32"
) -> QuantizedMatrix:
    return quantize("layer_weight", _stored(array, dtype), layout_of(array.shape, weight_format))


def test_int8_is_at_most_half_a_step_away() -> None:
    array = _draw(700, 384) * np.logspace(-30, 30, 700, dtype=np.float32)[:, None]
    matrix = _quantized(array, WeightFormat.INT8)
    assert matrix.shape == array.shape
    step = np.abs(array).max(1, keepdims=True) / 127
    assert (np.abs(matrix.floats() - array) <= step * 0.5001).all()


def test_int4_is_at_most_a_step_away_and_keeps_what_is_farthest() -> None:
    array = _draw(700, 384) * np.logspace(-30, 30, 700, dtype=np.float32)[:, None]
    matrix = _quantized(array, WeightFormat.INT4)
    assert matrix.shape == array.shape
    assert matrix.scales.shape == (700, 6)
    groups, floats = array.reshape(700, 6, 64), matrix.floats().reshape(700, 6, 64)
    farthest = np.abs(groups).max(2, keepdims=True)
    off = np.abs(floats - groups)
    # Only at the end opposite to the farthest number is it more than half a step.
    assert (off <= farthest / 8 * 1.0001).all()
    assert (off <= farthest / 16 * 1.0001).mean() > 0.95
    place = np.abs(groups).argmax(2)[..., None]
    kept = np.take_along_axis(floats, place, 2)
    np.testing.assert_allclose(kept, np.take_along_axis(groups, place, 2), rtol=1e-6)


@pytest.mark.parametrize(("width", "num_bits", "num_groups"), [(192, 4, 3), (96, 4, 3), (40, 8, 1)])
def test_a_group_divides_the_width(width: int, num_bits: int, num_groups: int) -> None:
    matrix = _quantized(_draw(8, width), WeightFormat.INT4)
    assert (matrix.num_bits, matrix.scales.shape) == (num_bits, (8, num_groups))
    assert matrix.shape == (8, width)


@pytest.mark.parametrize("weight_format", _FORMATS)
@pytest.mark.parametrize("value", [0.0, 1e-45, -3.0])
def test_rows_of_one_number_stay_what_they_are(weight_format: WeightFormat, value: float) -> None:
    array = np.full((4, 128), value, np.float32)
    np.testing.assert_allclose(
        _quantized(array, weight_format).floats(), array, rtol=1e-6, atol=1e-40
    )


@pytest.mark.parametrize("weight_format", _FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(weight_format: WeightFormat, value: float) -> None:
    array = _draw(300, 1024)
    array[299, 700] = value
    with pytest.raises(WeightsBroken, match="`layer_weight`"):
        _quantized(array, weight_format)


def test_bfloat16_is_read_as_its_numbers() -> None:
    array = (_draw(8, 128).view(np.uint32) >> 16).astype(np.uint16)
    wide = (array.astype(np.uint32) << 16).view(np.float32)
    expected = _quantized(wide, WeightFormat.INT8).floats()
    np.testing.assert_array_equal(_quantized(array, WeightFormat.INT8, "BF16").floats(), expected)


def _logits(runner: OpenVinoRunner) -> NDArray[np.float32]:
    """After every token of all prompts, each run alone."""
    values = []
    for sequence in make_sequences(runner, make_prompts()[1:]):
        values += run_pieces(runner, [(sequence, len(sequence.ids))])
    return np.concatenate(values)


def _dequantize(folder: Path, weight_format: WeightFormat, other: Path) -> Path:
    """A copy of the model with the weights that are in effect, in float32."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and "embed_tokens" not in name:
            own = WeightFormat.INT8 if name == "lm_head.weight" else weight_format
            floats = _quantized(tensor.float().numpy(), own).floats()
            tensors[name] = torch.from_numpy(floats)
    other.mkdir()
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    (other / "config.json").write_bytes((folder / "config.json").read_bytes())
    return other


@pytest.mark.parametrize("weight_format", _FORMATS)
def test_a_graph_runs_on_the_weights_that_are_in_effect(
    tmp_path: Path, weight_format: WeightFormat
) -> None:
    folder = save_decoder(tmp_path / "model", "llama", **_SHAPE)
    quantized = exact_runner(folder, weight_format=weight_format)
    values = _logits(quantized)
    expected = _logits(exact_runner(_dequantize(folder, weight_format, tmp_path / "other")))
    print("largest difference to dequantized", np.abs(values - expected).max())
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)
    stored = exact_runner(folder)
    assert quantized.memory_bytes() < stored.memory_bytes()
    assert np.abs(values - _logits(stored)).max() > 1e-3


@pytest.mark.parametrize(
    ("weight_format", "agreement"), [(WeightFormat.INT8, 0.95), (WeightFormat.INT4, 0.35)]
)
def test_answers_stay_near_those_of_the_stored_weights(
    tmp_path: Path, weight_format: WeightFormat, agreement: float
) -> None:
    folder = save_decoder(tmp_path, "llama", dtype=torch.bfloat16, **_SHAPE)
    values = _logits(exact_runner(folder, weight_format=weight_format))
    expected = _logits(exact_runner(folder))
    same = (values.argmax(-1) == expected.argmax(-1)).mean()
    print("agreement", same, "largest difference", np.abs(values - expected).max())
    assert same >= agreement


@pytest.mark.parametrize("weight_format", _FORMATS)
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral"])
def test_logits_do_not_depend_on_what_else_runs(
    tmp_path: Path, model_type: str, weight_format: WeightFormat
) -> None:
    changes: dict[str, Any] = {
        "llama": _SHAPE,
        "gpt2": {"hidden_size": 64, "num_key_value_heads": 4, "n_inner": 128},
        "mixtral": {"num_local_experts": 6},
    }[model_type]
    folder = save_decoder(tmp_path, model_type, dtype=torch.bfloat16, **changes)
    check_law(default_runner(folder, weight_format=weight_format))
    check_law(exact_runner(folder, weight_format=weight_format))
