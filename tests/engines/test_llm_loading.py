"""What loading a model costs: nodes of its graph, memory, threads."""

from collections import Counter
from pathlib import Path

import torch
from llm_models import save_decoder

from gatehouse.engines.llm.config import read_config
from gatehouse.engines.llm.families import FAMILIES
from gatehouse.engines.llm.layers import DecoderGraph
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


def _num_constants(folder: Path) -> int:
    config = read_config(folder)
    graph = DecoderGraph(config, Checkpoint(folder))
    logits = FAMILIES[config.architecture](config, graph)
    model = openvino.Model([ops.result(logits)], graph.parameters, "decoder")
    return Counter(node.get_type_name() for node in model.get_ops())["Constant"]
