"""What loading a model costs: nodes of its graph, memory, threads."""

import json
import mmap
import os
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from llm_models import save_decoder
from safetensors.torch import save_file
from tiny_models import save_tiny_llama

from gatehouse.engines.base import EngineOptions, ModelNotLoadable
from gatehouse.engines.llm.config import read_config
from gatehouse.engines.llm.families import FAMILIES
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.loading import load_batched_text_generation
from gatehouse.engines.llm.mapped_files import letting_go
from gatehouse.engines.llm.quiet_openvino import openvino, ops
from gatehouse.engines.llm.weights import Checkpoint


def test_further_layer_brings_no_constants_but_its_weights(tmp_path: Path) -> None:
    """Compiling takes as long as a graph has nodes, and most would be the same dozens again."""
    three, two = (
        _num_constants(
            save_decoder(
                tmp_path / str(count), "llama", dtype=torch.bfloat16, num_hidden_layers=count
            )
        )
        for count in (3, 2)
    )
    num_weights = 9
    num_activations = 1  # each of which OpenVINO gives a number of its own
    assert three - two == num_weights + num_activations


def test_what_is_read_of_a_file_does_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(2**26))
    with path.open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    class File:
        def let_go(self) -> None:
            buffer.madvise(mmap.MADV_DONTNEED)

    before = _mapped_bytes()
    with letting_go(File()):
        first = hash(buffer[:])
        piled_up = _mapped_bytes() - before
        deadline = time.monotonic() + 20
        while _mapped_bytes() - before > piled_up / 2:
            assert time.monotonic() < deadline, "what was read stays in memory"
            time.sleep(0.01)
        assert hash(buffer[:]) == first
    assert _mapped_bytes() - before < 2**24


def test_broken_tokenizer_is_told_of_though_it_is_read_beside_the_weights(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelNotLoadable, match=r"`tokenizer\.json` is not JSON"):
        load_batched_text_generation(tmp_path, EngineOptions(), 1)


def test_broken_weights_end_loading_though_the_tokenizer_is_sound(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 9}))
    with pytest.raises(ModelNotLoadable, match="hold no tensor"):
        load_batched_text_generation(tmp_path, EngineOptions(), 1)


def test_mapped_weights_are_no_memory_that_a_limit_counts(tmp_path: Path) -> None:
    """`RLIMIT_DATA` holds hosts to what they may take: twice the weights, and some."""
    save_file({"weight": torch.zeros(2**24)}, tmp_path / "model.safetensors")
    before = _of_this_process("VmData")
    checkpoint = Checkpoint(tmp_path)
    assert _of_this_process("VmData") - before < 2**20
    assert not checkpoint["weight"].array().any()


def _mapped_bytes() -> int:
    return _of_this_process("RssFile")


def _of_this_process(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def _num_constants(folder: Path) -> int:
    config = read_config(folder)
    graph = DecoderGraph(config, Checkpoint(folder))
    logits = FAMILIES[config.architecture](config, graph)
    model = openvino.Model([ops.result(logits)], graph.parameters, "decoder")
    return Counter(node.get_type_name() for node in model.get_ops())["Constant"]
