"""Adapters in PEFT's format, drawn at random, and what a model is with one merged into it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from gatehouse.engines.base import AdapterFolder

Matrices = dict[str, NDArray[np.float32]]
_CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "org/base",
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}


def draw_matrices(
    model_folder: Path, rank: int, targets: Sequence[str], *, seed: int = 0, infix: str = ""
) -> Matrices:
    """Two matrices for each linear layer of the model whose name ends with one of `targets`."""
    draw = np.random.default_rng(seed)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    matrices: Matrices = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in targets:
            continue
        num_out, num_in = module.weight.shape
        if isinstance(module, Conv1D):
            num_in, num_out = num_out, num_in
        prefix = f"base_model.model.{name}.lora_"
        for side, shape in (("A", (rank, num_in)), ("B", (num_out, rank))):
            values = draw.normal(size=shape).astype(np.float32) * np.float32(0.2)
            matrices[f"{prefix}{side}{infix}.weight"] = values
    assert matrices
    return matrices


def save_adapter(folder: Path, matrices: Mapping[str, Any], **config: Any) -> AdapterFolder:
    """An adapter's folder; `config` goes over what PEFT writes."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = min((len(m) for name, m in matrices.items() if ".lora_A" in name), default=8)
    entries = _CONFIG | {"r": rank, "lora_alpha": 2 * rank} | config
    (folder / "adapter_config.json").write_text(json.dumps(entries))
    save_file({name: np.ascontiguousarray(m) for name, m in matrices.items()}, _weights(folder))
    return AdapterFolder(key=folder.name, folder=str(folder))


def _weights(folder: Path) -> Path:
    return folder / "adapter_model.safetensors"


def merged_model(model_folder: Path, matrices: Matrices, scale: float) -> Any:
    """The model in float32 with `scale * B A` added to its weights."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    for name, down in matrices.items():
        if ".lora_A" not in name:
            continue
        path = name.removeprefix("base_model.model.").partition(".lora_A")[0]
        up = matrices[name.replace(".lora_A", ".lora_B")]
        change = torch.from_numpy(up.astype(np.float64) @ down.astype(np.float64) * scale).float()
        module = model.get_submodule(path)
        with torch.no_grad():
            module.weight += change.T if isinstance(module, Conv1D) else change
    return model


def greedy(model: Any, tokenizer: Any, prompt: str, count: int) -> list[int]:
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=count, do_sample=False)
    return [int(token) for token in output[0, inputs.input_ids.shape[1] :]]
