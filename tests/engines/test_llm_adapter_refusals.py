"""Adapters that are broken, of another kind, or of another model: each is refused in a sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generating import ask
from low_rank_adapters import Matrices, draw_matrices, save_adapter

from gatehouse.engines.base import EngineOptions, RefusalKind, RequestRefused
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.loading import load_batched_text_generation


@pytest.fixture(scope="module")
def engine(llama_folder: Path) -> Iterator[BatchedTextGeneration]:
    engine = load_batched_text_generation(llama_folder, EngineOptions(takes_adapters=True), 1)
    yield engine
    engine.unload()


def broken(matrices: Matrices, **changes: Any) -> dict[str, Any]:
    """The matrices with one of them changed, or left out, by the end of its name."""
    found: dict[str, Any] = dict(matrices)
    for end, value in changes.items():
        name = next(name for name in found if end in name)
        if value is None:
            del found[name]
        else:
            found[name] = value
    return found


@pytest.mark.parametrize(
    ("changes", "config", "sentence"),
    [
        ({}, {"peft_type": "IA3"}, "The adapter is not of the type LORA"),
        ({}, {"use_dora": True}, "(`use_dora`), which is not supported here"),
        ({}, {"bias": "all"}, "The adapter has biases"),
        ({}, {"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({}, {"init_lora_weights": "pissa_niter_4"}, "a changed base"),
        ({}, {"alpha_pattern": {"(a+)+b": 1}}, "regular expressions"),
        ({}, {"r": "many"}, "`adapter_config.json` is not one of PEFT's: Expected `int`"),
        ({}, {"r": 1000}, "`adapter_config.json` is not one of PEFT's"),
        ({"lora_A": None}, {}, "only one of two matrices for `model.layers.0"),
        ({"lora_A": np.zeros((4, 3), np.float32)}, {}, "is it an adapter of another base model?"),
        ({"lora_A": np.zeros(4, np.float32)}, {}, "is it an adapter of another base model?"),
        ({"lora_A": np.zeros((257, 64), np.float32)}, {}, "must be >= 1 and <= 256"),
        ({"lora_A": np.zeros((4, 64), np.int8)}, {}, "are not BF16, F16 or F32"),
        ({"lora_A": np.full((4, 64), np.nan, np.float32)}, {}, "not finite"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_said(
    engine: BatchedTextGeneration,
    llama_folder: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    config: dict[str, Any],
    sentence: str,
) -> None:
    matrices = broken(draw_matrices(llama_folder, 4, ("q_proj",)), **changes)
    adapter = save_adapter(tmp_path / "broken", matrices, **{"r": 4, **config})
    with pytest.raises(RequestRefused) as refused:
        engine.add(1, ask("the cat", adapter=adapter))
    assert refused.value.kind is RefusalKind.VALIDATION
    assert sentence in refused.value.message
    assert refused.value.message.startswith("Input validation error: `adapter_id` ")
    assert str(tmp_path) not in refused.value.message
    assert not engine.has_work()


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.w_pack", "model.layers.9.self_attn.q_proj", "lm_head"]
)
def test_layer_that_the_model_has_not_is_named(
    engine: BatchedTextGeneration, tmp_path: Path, name: str
) -> None:
    path = f"base_model.model.{name}.lora_A.weight"
    adapter = save_adapter(tmp_path / "other", {path: np.zeros((4, 64), np.float32)})
    with pytest.raises(RequestRefused, match=f"The adapter changes `{name}`, and this model has"):
        engine.add(1, ask("the cat", adapter=adapter))


def test_files_that_are_none_are_refused(engine: BatchedTextGeneration, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "cut", {"base_model.model.x": np.zeros(4, np.float32)})
    weights = tmp_path / "cut" / "adapter_model.safetensors"
    request = ask("the cat", adapter=adapter)
    with pytest.raises(RequestRefused, match=r"`base_model\.model\.x` is none of a linear layer"):
        engine.add(1, request)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(RequestRefused, match=r"`adapter_model\.safetensors` is broken"):
        engine.add(1, request)
    weights.unlink()
    with pytest.raises(RequestRefused, match="have gone: please try again"):
        engine.add(1, request)
