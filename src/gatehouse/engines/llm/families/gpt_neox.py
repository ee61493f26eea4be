"""GPT-NeoX (arXiv:2204.06745) and Pythia: attention and MLP look at the same hidden states."""

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node, integers, split
from gatehouse.engines.llm.quiet_openvino import ops

_EMBEDDING = "gpt_neox.embed_in.weight"


def gpt_neox(config: DecoderConfig, graph: DecoderGraph) -> Node:
    graph.check_plain_heads()
    size = config.hidden_size
    parallel = config.fields.flag("use_parallel_residual", default=True)
    x = graph.embedding(_EMBEDDING)
    for layer in range(len(config.layers)):
        name = f"gpt_neox.layers.{layer}"
        normed = graph.layer_norm(x, f"{name}.input_layernorm", size)
        attended = ops.add(x, _attention(config, graph, layer, normed))
        seen = x if parallel else attended
        normed = graph.layer_norm(seen, f"{name}.post_attention_layernorm", size)
        x = ops.add(attended, _mlp(config, graph, f"{name}.mlp", normed))
    x = graph.layer_norm(graph.wanted_rows(x), "gpt_neox.final_layer_norm", size)
    # transformers 5 calls the head what all others do.
    head = "lm_head" if graph.weights.has("lm_head.weight") else "embed_out"
    return graph.head(x, head, embedding=_EMBEDDING)


def _mlp(config: DecoderConfig, graph: DecoderGraph, name: str, x: Node) -> Node:
    size, inner = config.hidden_size, config.intermediate_size
    x = graph.activation(graph.linear(x, f"{name}.dense_h_to_4h", size, inner, bias=True))
    return graph.linear(x, f"{name}.dense_4h_to_h", inner, size, bias=True)


def _attention(config: DecoderConfig, graph: DecoderGraph, layer: int, x: Node) -> Node:
    name = f"gpt_neox.layers.{layer}.attention"
    size, heads, width = config.hidden_size, config.num_attention_heads, config.head_dim
    bias = config.fields.flag("attention_bias", default=True)
    fused = graph.linear(x, f"{name}.query_key_value", size, 3 * size, bias=bias)
    # Head by head: its query, its key, its value.
    fused = ops.reshape(fused, integers(0, 0, heads, 3 * width), True)
    query, key, value = split(fused, 3, width, width, width)
    y = graph.attention(layer, query, key, value)
    return graph.linear(y, f"{name}.dense", size, size, bias=bias)
