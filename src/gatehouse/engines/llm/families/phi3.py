"""Phi-3 (arXiv:2404.14219): Llama with queries, keys and values in one matrix, gate and up too."""

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node, split
from gatehouse.engines.llm.quiet_openvino import ops

_EMBEDDING = "model.embed_tokens.weight"


def phi3(config: DecoderConfig, graph: DecoderGraph) -> Node:
    size = config.hidden_size
    x = graph.embedding(_EMBEDDING)
    for layer in range(len(config.layers)):
        name = f"model.layers.{layer}"
        normed = graph.rms_norm(x, f"{name}.input_layernorm", size)
        x = ops.add(x, _attention(config, graph, layer, normed))
        normed = graph.rms_norm(x, f"{name}.post_attention_layernorm", size)
        x = ops.add(x, _mlp(config, graph, f"{name}.mlp", normed))
    x = graph.rms_norm(graph.wanted_rows(x), "model.norm", size)
    return graph.head(x, embedding=_EMBEDDING)


def _mlp(config: DecoderConfig, graph: DecoderGraph, name: str, x: Node) -> Node:
    size, inner = config.hidden_size, config.intermediate_size
    gate, up = split(graph.linear(x, f"{name}.gate_up_proj", size, 2 * inner), 2, inner, inner)
    return graph.linear(graph.gated(gate, up), f"{name}.down_proj", inner, size)


def _attention(config: DecoderConfig, graph: DecoderGraph, layer: int, x: Node) -> Node:
    name = f"model.layers.{layer}.self_attn"
    size, width = config.hidden_size, config.head_dim
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    count = heads + 2 * kv_heads
    fused = graph.heads(graph.linear(x, f"{name}.qkv_proj", size, count * width), count)
    query, key, value = split(fused, 2, heads, kv_heads, kv_heads)
    y = graph.attention(layer, query, key, value)
    return graph.linear(y, f"{name}.o_proj", heads * width, size)
