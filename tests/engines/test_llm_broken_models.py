"""Models that are not what they say: refused with a sentence, before memory is taken for them."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from llm_models import save_decoder
from safetensors.torch import load_file, save_file
from tiny_models import make_tokenizer
from transformers import AutoConfig

from gatehouse.engines.base import EngineOptions, ModelNotLoadable, RunnerName, RunnerUnsuited
from gatehouse.engines.choice import load_text_generation
from gatehouse.engines.llm.openvino_runner import RunnerOptions, load_runner
from gatehouse.engines.llm.quiet_openvino import openvino

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_EMBEDDING = "model.embed_tokens.weight"
_OPENVINO = EngineOptions(RunnerName.OPENVINO)

Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_decoder(tmp_path_factory.mktemp("sound"), "mistral", sliding_window=40)
    make_tokenizer(adds_bos=True).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "broken")


def says(**changes: Any) -> Break:
    """`config.json` says something else."""

    def change(folder: Path) -> None:
        entries = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(entries | changes))

    return change


def rope(**parameters: Any) -> Break:
    return says(rope_parameters={"rope_type": "linear", "rope_theta": 1e4} | parameters)


def holds(name: str, value: float, place: int = 0) -> Break:
    """A number of a tensor is another one."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / _WEIGHTS)
        tensors[name].view(-1)[place] = value
        save_file(tensors, folder / _WEIGHTS)

    return change


def shards(**index: str) -> Break:
    """Two shards, of which the second is lost, or an index that says something else."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / _WEIGHTS)
        (folder / _WEIGHTS).unlink()
        save_file({_EMBEDDING: tensors.pop(_EMBEDDING)}, folder / "one.safetensors")
        weight_map = {_EMBEDDING: "one.safetensors"} | dict.fromkeys(tensors, "two.safetensors")
        (folder / _INDEX).write_text(json.dumps({"weight_map": weight_map | index}))

    return change


def starts(data: bytes) -> Break:
    """The weights begin with these bytes."""

    def change(folder: Path) -> None:
        path = folder / _WEIGHTS
        path.write_bytes(data + path.read_bytes()[len(data) :])

    return change


def cut(folder: Path) -> None:
    data = (folder / _WEIGHTS).read_bytes()
    (folder / _WEIGHTS).write_bytes(data[:-100])


def _header(entries: bytes) -> bytes:
    return len(entries).to_bytes(8, "little") + entries


_BOMB = b",".join(
    b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(110_000)
)
_BROKEN: dict[str, tuple[Break, str]] = {
    "wider than its tensors": (says(hidden_size=128), "`model.embed_tokens.weight` is of shape"),
    "more heads than its tensors": (says(num_attention_heads=8), "`.*q_proj.weight` is of shape"),
    "other heads than its tensors": (says(num_key_value_heads=1), "`.*k_proj.weight` is of shape"),
    "more words than its tensors": (says(vocab_size=330), "`model.embed_tokens.weight` is of"),
    "wider inside than its tensors": (says(intermediate_size=64), "`.*_proj.weight` is of shape"),
    "more layers than its tensors": (says(num_hidden_layers=3), "no tensor `model.layers.2"),
    "of another family": (says(architectures=["Qwen3ForCausalLM"]), "no tensor `.*q_norm.weight`"),
    "a lost shard": (shards(), "is missing"),
    "a shard elsewhere": (shards(a="../broken/one.safetensors"), "none of the model's"),
    "a shard of the system": (shards(a="/etc/passwd"), "none of the model's"),
    "tensors that no shard holds": (shards(**{_EMBEDDING: "two.safetensors"}), "is missing"),
    "a header of 2**40 bytes": (starts((2**40).to_bytes(8, "little")), "impossible size"),
    "a header of brackets": (starts(_header(b"[" * 4096)), "cannot be read"),
    "a header of many tensors": (starts(_header(b"{%s}" % _BOMB)), "too many tensors"),
    "a cut file": (cut, "is cut"),
    "a base of 0": (rope(rope_theta=0), "`rope_theta` is not a number"),
    "a base below 0": (rope(rope_theta=-1e4), "`rope_theta` is not a number"),
    "a base of 1e300": (rope(rope_theta=1e300), "`rope_theta` is not a number"),
    "a base that is no number": (rope(rope_theta=math.nan), "`rope_theta` is not a number"),
    "a factor of 0": (rope(factor=0), "`factor` is not a number"),
    "a factor that is infinite": (rope(factor=math.inf), "`factor` is not a number"),
    "2**31 words": (says(vocab_size=2**31), "`vocab_size` is not a whole number"),
    "no heads": (says(num_attention_heads=0), "`num_attention_heads` is not a whole number"),
    "no heads of keys": (says(num_key_value_heads=0), "`num_key_value_heads` is not a whole"),
    "heads that do not divide": (says(num_key_value_heads=3), "attention heads do not fit"),
    "10**6 layers": (says(num_hidden_layers=10**6), "`num_hidden_layers` is not a whole number"),
    "a window of 0": (says(sliding_window=0), "`sliding_window` is not a whole number"),
    "a window below 0": (says(sliding_window=-4), "`sliding_window` is not a whole number"),
    "a context of 10**9": (says(max_position_embeddings=10**9), "`max_position_embeddings` is"),
    "a context of 0": (says(max_position_embeddings=0), "`max_position_embeddings` is not"),
    "a word never met is no number": (holds(_EMBEDDING, math.nan, -3), "not finite"),
}
# Found as two tokens are run: looking through all weights before would take as long again.
_BROKEN_NUMBERS: dict[str, Break] = {
    "a matrix": holds("model.layers.1.mlp.down_proj.weight", math.nan, 77),
    "a norm": holds("model.layers.0.input_layernorm.weight", math.inf, 5),
    "the head": holds("lm_head.weight", math.nan, -1),
}


@pytest.mark.parametrize("name", _BROKEN)
def test_it_is_refused_before_memory_is_taken(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_model(*_: object) -> None:
        raise AssertionError("nothing may be compiled")

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    change, message = _BROKEN[name]
    change(folder)
    with pytest.raises(ModelNotLoadable, match=message) as caught:
        load_text_generation(folder, _OPENVINO, 1)
    assert str(folder) not in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", _BROKEN_NUMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_that_are_none_are_refused(name: str, dtype: torch.dtype, folder: Path) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in load_file(folder / _WEIGHTS).items()}
    save_file(tensors, folder / _WEIGHTS)
    _BROKEN_NUMBERS[name](folder)
    with pytest.raises(ModelNotLoadable, match="not finite"):
        load_text_generation(folder, _OPENVINO, 1)


def test_a_context_that_no_memory_holds_is_refused(folder: Path) -> None:
    says(max_position_embeddings=2**24)(folder)
    wanted = RunnerOptions(cache_bytes=2**60)
    with pytest.raises(ModelNotLoadable, match="not enough memory for the keys and values"):
        load_runner(folder, wanted)


@pytest.mark.parametrize("model_type", ["gemma3", "gpt_neo", "mamba", "mpt", "xlnet"])
def test_what_others_may_run_is_not_called_broken(model_type: str, tmp_path: Path) -> None:
    """Their configurations have other words for what all families here have."""
    entries = AutoConfig.for_model(model_type).to_dict() | {"architectures": ["SomeForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with pytest.raises(RunnerUnsuited, match="no graph"):
        load_text_generation(tmp_path, _OPENVINO, 1)


def test_the_sound_one_is_run(folder: Path) -> None:
    load_text_generation(folder, _OPENVINO, 1).unload()
