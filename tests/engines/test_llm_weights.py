"""Safetensors files: one, shards, and those that are broken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.llm.weights import Checkpoint, WeightsBroken


def _tensors(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "a": torch.randn(3, 5).to(dtype),
        "b.weight": torch.randn(7).to(dtype),
        "c": torch.randn(2, 2, 2).to(dtype),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_gives_the_numbers_that_were_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    saved = _tensors(dtype)
    save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint(tmp_path)
    assert set(checkpoint) == set(saved)
    for name, tensor in saved.items():
        assert checkpoint[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(checkpoint[name].floats(), tensor.float().numpy())
    assert checkpoint.num_bytes() == sum(t.numel() * t.itemsize for t in saved.values())


def test_what_was_let_go_is_read_again(tmp_path: Path) -> None:
    saved = _tensors(torch.float32)
    save_file(saved, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    array = checkpoint["a"].array()
    checkpoint.let_go()
    np.testing.assert_array_equal(array, saved["a"].numpy())


def test_a_tensor_at_an_odd_place_is_copied(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    header += " " * (5 - len(header) % 4)
    data = len(header).to_bytes(8, "little") + header.encode() + numbers.tobytes()
    (tmp_path / "model.safetensors").write_bytes(data)
    array = Checkpoint(tmp_path)["a"].array()
    assert array.flags.aligned
    np.testing.assert_array_equal(array, numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_found(
    dtype: torch.dtype, value: float, tmp_path: Path
) -> None:
    saved = _tensors(dtype)
    saved["b.weight"][5] = value
    save_file(saved, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint["a"].is_finite()
    assert not checkpoint["b.weight"].is_finite()


def _save_shards(folder: Path, weight_map: dict[str, str] | None = None) -> None:
    saved = _tensors(torch.bfloat16)
    first = {"a": saved["a"]}
    second = {name: saved[name] for name in ("b.weight", "c")}
    save_file(first, folder / "model-00001-of-00002.safetensors")
    save_file(second, folder / "model-00002-of-00002.safetensors")
    usual = dict.fromkeys(first, "model-00001-of-00002.safetensors")
    usual |= dict.fromkeys(second, "model-00002-of-00002.safetensors")
    index = {"metadata": {"total_size": 60}, "weight_map": weight_map or usual}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    _save_shards(tmp_path)
    checkpoint = Checkpoint(tmp_path)
    for name, tensor in _tensors(torch.bfloat16).items():
        np.testing.assert_array_equal(checkpoint[name].floats(), tensor.float().numpy())


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    _save_shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsBroken, match="is missing"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../model-00001-of-00002.safetensors", "/etc/passwd", "a\\b.safetensors", ".safetensors", ""],
)
def test_a_shard_outside_the_folder_is_refused(shard: str, tmp_path: Path) -> None:
    _save_shards(tmp_path, {"a": shard})
    with pytest.raises(WeightsBroken, match="none of the model's"):
        Checkpoint(tmp_path)


def test_an_index_that_names_more_than_its_shards_is_refused(tmp_path: Path) -> None:
    _save_shards(tmp_path, {"d": "model-00001-of-00002.safetensors"})
    with pytest.raises(WeightsBroken, match="no file holds"):
        Checkpoint(tmp_path)


def test_shards_with_a_name_in_common_are_refused(tmp_path: Path) -> None:
    save_file(_tensors(torch.float32), tmp_path / "x.safetensors")
    save_file(_tensors(torch.float32), tmp_path / "y.safetensors")
    index = {"weight_map": {"a": "x.safetensors", "c": "y.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsBroken, match="same name"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": 1}', "[" * 100_000, "\xff"])
def test_an_index_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="latin-1")
    with pytest.raises(WeightsBroken, match="cannot be read"):
        Checkpoint(tmp_path)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable, match="no `model"):
        Checkpoint(tmp_path)


def test_whole_numbers_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsBroken, match="stored as I8"):
        Checkpoint(tmp_path)


def _write(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + text + data)


def _entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "num_bytes", "message"),
    [
        ({"a": _entry("F32", [2], 0, 8)}, 7, "is cut"),
        ({"a": _entry("F32", [2], 0, 8)}, 9, "is cut"),
        ({"a": _entry("F32", [2], 4, 12)}, 12, "overlap"),
        ({"a": _entry("F32", [2], 0, 8), "b": _entry("F32", [1], 4, 8)}, 8, "overlap"),
        ({"a": _entry("F32", [1], 0, 4), "b": _entry("F32", [1], 8, 12)}, 12, "overlap"),
        ({"a": _entry("F32", [3], 0, 8)}, 8, "does not fit its shape"),
        ({"a": _entry("F32", [2**40, 2**40], 0, 8)}, 8, "does not fit its shape"),
        ({"a": _entry("F32", [-2, -1], 0, 8)}, 8, "impossible shape"),
        ({"a": _entry("F33", [2], 0, 8)}, 8, "unknown way"),
        ({"a\n": _entry("F32", [2], 0, 8)}, 8, "impossible way"),
        ({"a" * 600: _entry("F32", [2], 0, 8)}, 8, "impossible way"),
        ({"a": _entry("F32", [1] * 9, 0, 4)}, 4, "cannot be read"),
        ({"a": {"dtype": "F32"}}, 0, "cannot be read"),
        ({"a": 1}, 0, "cannot be read"),
        ([], 0, "cannot be read"),
        (b'{"a":' * 100_000, 0, "cannot be read"),
        (b"\xff\xff\xff", 0, "cannot be read"),
    ],
)
def test_a_broken_header_is_refused(
    header: Any, num_bytes: int, message: str, tmp_path: Path
) -> None:
    _write(tmp_path, header, bytes(num_bytes))
    with pytest.raises(WeightsBroken, match=message):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 3, 2**24 + 1, 2**40, 2**64 - 1])
def test_a_header_of_an_impossible_size_is_not_read(length: int, tmp_path: Path) -> None:
    _write(tmp_path, b"{}", length=length)
    with pytest.raises(WeightsBroken, match="impossible size"):
        Checkpoint(tmp_path)


def test_a_file_of_a_few_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\2")
    with pytest.raises(WeightsBroken, match="impossible size"):
        Checkpoint(tmp_path)
