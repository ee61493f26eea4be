"""Copies of quantized weights: made once, mapped ever after, and never trusted."""

import errno
import json
import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_checks import default_runner, make_prompts, make_sequences
from llm_models import run_pieces, save_decoder
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm import quantization, quantized_copy
from gatehouse.engines.llm.openvino_runner import OpenVinoRunner
from gatehouse.engines.llm.quantization import Layout, QuantizedMatrix, layout_of, quantize
from gatehouse.engines.llm.quantized_copy import CopyWriter
from gatehouse.engines.llm.weights import Checkpoint, StoredTensor, WeightsBroken

_FORMATS = [WeightFormat.INT8, WeightFormat.INT4]
_INT4 = WeightFormat.INT4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_decoder(tmp_path / "model", "llama", hidden_size=128, intermediate_size=192)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "some" / "copies"


def _logits(runner: OpenVinoRunner) -> NDArray[np.float32]:
    (sequence,) = make_sequences(runner, make_prompts()[2:3])
    (values,) = run_pieces(runner, [(sequence, len(sequence.ids))])
    runner.close()
    return values


def _load(folder: Path, copies: Path | None, weight_format: WeightFormat) -> NDArray[np.float32]:
    return _logits(default_runner(folder, weight_format=weight_format, copies_folder=copies))


def _one(copies: Path) -> Path:
    (path,) = copies.iterdir()
    return path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of matrices that are quantized from now on."""
    names: list[str] = []
    rows = quantization.quantized_rows

    def note(name: str, tensor: StoredTensor, layout: Layout) -> Any:
        names.append(name)
        return rows(name, tensor, layout)

    for module in (quantization, quantized_copy):
        monkeypatch.setattr(module, "quantized_rows", note)
    return names


@pytest.mark.parametrize("weight_format", _FORMATS)
def test_the_next_load_makes_nothing_and_gives_the_same(
    folder: Path, copies: Path, weight_format: WeightFormat, made: list[str]
) -> None:
    expected = _load(folder, None, weight_format)
    num_made = len(made)
    np.testing.assert_array_equal(_load(folder, copies, weight_format), expected)
    assert len(made) == 2 * num_made
    path, before = _one(copies), _one(copies).read_bytes()
    np.testing.assert_array_equal(_load(folder, copies, weight_format), expected)
    assert len(made) == 2 * num_made
    assert _one(copies) == path
    assert path.read_bytes() == before


def test_a_copy_is_a_plain_safetensors_file(folder: Path, copies: Path) -> None:
    _load(folder, copies, _INT4)
    tensors, checkpoint = load_file(_one(copies)), Checkpoint(folder)
    names = [name for name in tensors if not name.endswith(".scales")]
    assert "lm_head.weight" in names
    for name in names:
        expected = quantize(
            name,
            checkpoint[name],
            layout_of(
                checkpoint[name].shape, WeightFormat.INT8 if name == "lm_head.weight" else _INT4
            ),
        )
        np.testing.assert_array_equal(tensors[name], expected.values)
        np.testing.assert_array_equal(tensors[f"{name}.scales"], expected.scales)


def _cut(data: bytes) -> bytes:
    return data[:-1]


def _lengthen(data: bytes) -> bytes:
    return data + b"\0"


def _flip_a_number(data: bytes) -> bytes:
    return data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:]


def _empty(_: bytes) -> bytes:
    return b""


def _nothing(data: bytes) -> bytes:
    return bytes(len(data))


def _exchange(data: bytes) -> bytes:
    """Two matrices of a size change their names: every other check is passed."""
    begin = 8 + int.from_bytes(data[:8], "little")
    header = data[8:begin]
    one, other = b"layers.0.self_attn.q_proj", b"layers.0.self_attn.o_proj"
    header = header.replace(one, b"?" * len(one)).replace(other, one)
    return data[:8] + header.replace(b"?" * len(one), other) + data[begin:]


def _of_something_else(data: bytes) -> bytes:
    begin = 8 + int.from_bytes(data[:8], "little")
    key = json.loads(data[8:begin])["__metadata__"]["key"]
    return data.replace(key.encode(), b"0" * len(key))


def _without_metadata(data: bytes) -> bytes:
    return data.replace(b'"__metadata__"', b'"__metadate__"')


def _no_tensors(_: bytes) -> bytes:
    header = b'{"__metadata__":{"key":"","blake3":""}}'
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _lengthen,
        _flip_a_number,
        _empty,
        _nothing,
        _exchange,
        _of_something_else,
        _without_metadata,
        _no_tensors,
    ],
)
def test_a_damaged_copy_is_made_anew(
    folder: Path,
    copies: Path,
    damage: Any,
    made: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = _load(folder, copies, _INT4)
    path, num_made = _one(copies), len(made)
    sound = path.read_bytes()
    assert damage(sound) != sound
    path.write_bytes(damage(sound))
    np.testing.assert_array_equal(_load(folder, copies, _INT4), expected)
    assert len(made) == 2 * num_made
    assert _one(copies) == path
    assert path.read_bytes() == sound
    assert "made anew" in caplog.text
    assert str(copies) not in caplog.text


def test_what_a_copy_lacks_is_made_and_the_copy_goes(
    folder: Path, copies: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _load(folder, copies, _INT4)
    num_made = len(made)
    get = quantized_copy.QuantizedCopy.get
    monkeypatch.setattr(
        quantized_copy.QuantizedCopy,
        "get",
        lambda copy, name, layout: None if "up_proj" in name else get(copy, name, layout),
    )
    np.testing.assert_array_equal(_load(folder, copies, _INT4), expected)
    assert 0 < len(made) - num_made < num_made
    assert not list(copies.iterdir())


def test_other_weights_configurations_and_formats_have_copies_of_their_own(
    folder: Path, copies: Path
) -> None:
    _load(folder, copies, _INT4)
    names = {_one(copies).name}
    _load(folder, copies, WeightFormat.INT8)
    (folder / "model.safetensors").touch()
    _load(folder, copies, WeightFormat.INT8)
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    _load(folder, copies, WeightFormat.INT8)
    names |= {path.name for path in copies.iterdir()}
    assert len(names) == 4
    _load(folder, copies, WeightFormat.INT8)
    assert names == {path.name for path in copies.iterdir()}


def test_the_oldest_copies_go_first(
    folder: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load(folder, copies, WeightFormat.INT8)
    first = _one(copies)
    _load(folder, copies, WeightFormat.INT4)
    (second,) = set(copies.iterdir()) - {first}
    now = time.time()
    os.utime(first, (now - 9, now - 9))
    os.utime(second, (now - 5, now - 5))
    _load(folder, copies, WeightFormat.INT8)  # the first is used again
    room = first.stat().st_size + second.stat().st_size
    monkeypatch.setattr(Checkpoint, "num_bytes", lambda _: room)
    (folder / "model.safetensors").touch()
    _load(folder, copies, WeightFormat.INT4)
    left = set(copies.iterdir())
    assert first in left
    assert second not in left
    assert len(left) == 2


def test_what_was_left_unfinished_goes(folder: Path, copies: Path) -> None:
    copies.mkdir(parents=True)
    old, new = copies / ".making-old", copies / ".making-new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    _load(folder, copies, _INT4)
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_written_is_done_without(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    values = _load(folder, tmp_path / "file" / "copies", _INT4)
    np.testing.assert_array_equal(values, _load(folder, None, _INT4))
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("num_writes", [0, 1, 12])
def test_a_full_disk_is_done_without(
    folder: Path, copies: Path, num_writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _load(folder, None, _INT4)
    left, write = [num_writes], CopyWriter._write

    def write_some(writer: CopyWriter, array: NDArray[Any]) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, array)

    monkeypatch.setattr(CopyWriter, "_write", write_some)
    np.testing.assert_array_equal(_load(folder, copies, _INT4), expected)
    assert not list(copies.iterdir())


def test_broken_weights_leave_nothing_behind(tmp_path: Path, copies: Path) -> None:
    folder = save_decoder(tmp_path / "model", "llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][-1, -1] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsBroken):
        _load(folder, copies, WeightFormat.INT8)
    assert not list(copies.iterdir())


def test_two_at_once_do_not_disturb_each_other(folder: Path, copies: Path) -> None:
    expected = _load(folder, None, _INT4)
    values: list[NDArray[np.float32]] = []
    start = threading.Barrier(3)

    def load() -> None:
        start.wait()
        values.append(_load(folder, copies, _INT4))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values) == 3
    for value in values:
        np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(_load(folder, copies, _INT4), expected)
    assert _one(copies).suffix == ".safetensors"


def test_a_copy_that_is_removed_stays_mapped(folder: Path, copies: Path) -> None:
    expected = _load(folder, copies, _INT4)
    runner = default_runner(folder, weight_format=_INT4, copies_folder=copies)
    _one(copies).unlink()
    np.testing.assert_array_equal(_logits(runner), expected)


@pytest.mark.parametrize("weight_format", _FORMATS)
def test_quantizing_into_a_file_holds_little_in_memory(
    tmp_path: Path, weight_format: WeightFormat
) -> None:
    array = np.random.default_rng(0).standard_normal((4096, 2048), dtype=np.float32)
    tensor = StoredTensor("F32", array.shape, 0, array)
    layout = layout_of(array.shape, weight_format)
    with CopyWriter(tmp_path, {"w": tensor}) as writer:
        tracemalloc.start()
        matrix = writer.add("w", tensor, layout)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**22 + matrix.scales.nbytes * 2
    expected = quantize("w", tensor, layout)
    _assert_equal(matrix, expected)


def _assert_equal(matrix: QuantizedMatrix, expected: QuantizedMatrix) -> None:
    np.testing.assert_array_equal(matrix.values, expected.values)
    np.testing.assert_array_equal(matrix.scales, expected.scales)
