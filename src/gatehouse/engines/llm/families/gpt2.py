"""GPT-2 (Radford et al., 2019): learned positions, layer norms, weights stored as (in, out)."""

import math

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown
from gatehouse.engines.llm.config_rotary import MAX_CONTEXT_LENGTH
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node, split
from gatehouse.engines.llm.quiet_openvino import ops


def gpt2(config: DecoderConfig, graph: DecoderGraph) -> Node:
    if config.fields.flag("add_cross_attention", default=False):
        raise ArchitectureUnknown("The model's layers look at an encoder.")
    graph.check_plain_heads()
    # The first checkpoints were saved without the head, hence without its model's name.
    prefix = "transformer." if graph.weights.has("transformer.wte.weight") else ""
    size = config.hidden_size
    num_positions = config.fields.integer("max_position_embeddings", MAX_CONTEXT_LENGTH)
    x = ops.add(
        graph.embedding(f"{prefix}wte.weight"),
        graph.learned_positions(f"{prefix}wpe.weight", num_positions),
    )
    for layer in range(len(config.layers)):
        name = f"{prefix}h.{layer}"
        x = ops.add(x, _attention(config, graph, layer, name, x))
        normed = graph.layer_norm(x, f"{name}.ln_2", size)
        inner = graph.conv1d(normed, f"{name}.mlp.c_fc", size, config.intermediate_size)
        inner = graph.activation(inner)
        x = ops.add(x, graph.conv1d(inner, f"{name}.mlp.c_proj", config.intermediate_size, size))
    x = graph.layer_norm(graph.wanted_rows(x), f"{prefix}ln_f", size)
    return graph.head(x, embedding=f"{prefix}wte.weight")


def _attention(config: DecoderConfig, graph: DecoderGraph, layer: int, name: str, x: Node) -> Node:
    size, heads = config.hidden_size, config.num_attention_heads
    normed = graph.layer_norm(x, f"{name}.ln_1", size)
    fused = graph.heads(graph.conv1d(normed, f"{name}.attn.c_attn", size, 3 * size), 3 * heads)
    query, key, value = split(fused, 2, heads, heads, heads)
    y = graph.attention(layer, query, key, value, scale=_scale(config, layer))
    return graph.conv1d(y, f"{name}.attn.c_proj", size, size)


def _scale(config: DecoderConfig, layer: int) -> float:
    scale = 1.0
    if config.fields.flag("scale_attn_weights", default=True):
        scale /= math.sqrt(config.head_dim)
    # So that half precision would do (Mistral's GPT-2, Stanford CRFM).
    if config.fields.flag("scale_attn_by_inverse_layer_idx", default=False):
        scale /= layer + 1
    return scale
