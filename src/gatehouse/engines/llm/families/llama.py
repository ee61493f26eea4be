"""Llama (arXiv:2302.13971, 2407.21783) and those that differ from it in a bias or a norm."""

from collections.abc import Callable
from dataclasses import dataclass

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node
from gatehouse.engines.llm.quiet_openvino import ops

_EMBEDDING = "model.embed_tokens.weight"

# Makes something of a layer's normed hidden states, given its number and its tensors' prefix.
BuildMlp = Callable[[int, str, Node], Node]


@dataclass(frozen=True, slots=True)
class Traits:
    """Where a family leaves Llama."""

    query_key_value_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    query_key_norm: bool = False


def llama(config: DecoderConfig, graph: DecoderGraph) -> Node:
    bias = config.fields.flag("attention_bias", default=False)
    mlp_bias = config.fields.flag("mlp_bias", default=False)
    return decoder(config, graph, Traits(bias, bias, mlp_bias))


def mistral(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """Mistral (arXiv:2310.06825): attention sees a window."""
    return decoder(config, graph, Traits())


def qwen2(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """Qwen2 (arXiv:2407.10671): a bias on queries, keys and values."""
    return decoder(config, graph, Traits(query_key_value_bias=True))


def qwen3(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """Qwen3 (arXiv:2505.09388): queries and keys are normed head by head."""
    bias = config.fields.flag("attention_bias", default=False)
    return decoder(config, graph, Traits(bias, bias, query_key_norm=True))


def smollm3(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """SmolLM3: every fourth layer is not told positions (NoPE, arXiv:2501.18795)."""
    return llama(config, graph)


def decoder(
    config: DecoderConfig, graph: DecoderGraph, traits: Traits, mlp: BuildMlp | None = None
) -> Node:
    """Logits of a Llama with these traits; `mlp` stands in for the usual one of its layers."""

    def gated_mlp(_: int, name: str, x: Node) -> Node:
        return graph.gated_mlp(x, f"{name}.mlp", bias=traits.mlp_bias)

    build_mlp = mlp or gated_mlp
    size = config.hidden_size
    x = graph.embedding(_EMBEDDING)
    for layer in range(len(config.layers)):
        name = f"model.layers.{layer}"
        normed = graph.rms_norm(x, f"{name}.input_layernorm", size)
        x = ops.add(x, _attention(config, graph, traits, layer, normed))
        normed = graph.rms_norm(x, f"{name}.post_attention_layernorm", size)
        x = ops.add(x, build_mlp(layer, name, normed))
    x = graph.rms_norm(graph.wanted_rows(x), "model.norm", size)
    return graph.head(x, embedding=_EMBEDDING)


def _attention(
    config: DecoderConfig, graph: DecoderGraph, traits: Traits, layer: int, x: Node
) -> Node:
    name = f"model.layers.{layer}.self_attn"
    size, width = config.hidden_size, config.head_dim

    def project(part: str, count: int) -> Node:
        y = graph.linear(
            x, f"{name}.{part}_proj", size, count * width, bias=traits.query_key_value_bias
        )
        return graph.heads(y, count)

    query = project("q", config.num_attention_heads)
    key = project("k", config.num_key_value_heads)
    value = project("v", config.num_key_value_heads)
    if traits.query_key_norm:
        query = graph.rms_norm(query, f"{name}.q_norm", width)
        key = graph.rms_norm(key, f"{name}.k_norm", width)
    y = graph.attention(layer, query, key, value)
    return graph.linear(
        y, f"{name}.o_proj", config.num_attention_heads * width, size, bias=traits.output_bias
    )
