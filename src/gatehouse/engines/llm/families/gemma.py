"""Gemma (arXiv:2403.08295), Gemma 2 (arXiv:2408.00118) and the text of Gemma 3 (arXiv:2503.19786).

Norms multiply by one more than their weight, and embeddings are scaled.
"""

import math
from dataclasses import dataclass

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node, floats
from gatehouse.engines.llm.quiet_openvino import ops

_EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class _Traits:
    """Where a generation leaves the first.

    Attributes:
        query_key_norm: Queries and keys are normed head by head.
        post_norms: What attention and MLP give is normed too.
        query_scalar: Products of queries and keys are divided by its root.
        attention_cap: Bound of those products, by a hyperbolic tangent; None: they have none.
        logit_cap: The same of logits.
    """

    query_key_norm: bool
    post_norms: bool
    query_scalar: float
    attention_cap: float | None
    logit_cap: float | None


def gemma(config: DecoderConfig, graph: DecoderGraph) -> Node:
    return _decoder(config, graph, _Traits(False, False, config.head_dim, None, None))


def gemma2(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """Gemma 2, if its attention is not capped; all that were published are."""
    return _decoder(
        config,
        graph,
        _Traits(
            query_key_norm=False,
            post_norms=True,
            query_scalar=config.fields.number("query_pre_attn_scalar", 256.0),
            attention_cap=_cap(config, "attn_logit_softcapping", 50.0),
            logit_cap=_cap(config, "final_logit_softcapping", 30.0),
        ),
    )


def gemma3(config: DecoderConfig, graph: DecoderGraph) -> Node:
    return _decoder(
        config,
        graph,
        _Traits(
            query_key_norm=True,
            post_norms=True,
            query_scalar=config.fields.number("query_pre_attn_scalar", 256.0),
            attention_cap=_cap(config, "attn_logit_softcapping", None),
            logit_cap=_cap(config, "final_logit_softcapping", None),
        ),
    )


def _cap(config: DecoderConfig, name: str, default: float | None) -> float | None:
    if name in config.fields:
        return config.fields.number(name, 1.0)
    return None if config.fields.is_null(name) else default


def _decoder(config: DecoderConfig, graph: DecoderGraph, traits: _Traits) -> Node:
    if traits.attention_cap is not None:
        # OpenVINO's attention over kept keys takes no such bound (none of its 28 inputs and no
        # attribute does), and one made of other operations would read all keys of all sequences.
        raise ArchitectureUnknown("The model bounds its attention, which has no graph here.")
    if config.fields.flag("use_bidirectional_attention", default=False):
        raise ArchitectureUnknown("The model's tokens see those after them.")
    size = config.hidden_size
    x = ops.multiply(graph.embedding(_EMBEDDING), floats(math.sqrt(size)))
    # What Gemma calls a norm after attention is, from the second on, one of what attention gives.
    before_mlp = "pre_feedforward_layernorm" if traits.post_norms else "post_attention_layernorm"
    for layer in range(len(config.layers)):
        name = f"model.layers.{layer}"
        y = _attention(config, graph, traits, layer, _norm(graph, x, f"{name}.input_layernorm"))
        if traits.post_norms:
            y = _norm(graph, y, f"{name}.post_attention_layernorm")
        x = ops.add(x, y)
        y = graph.gated_mlp(_norm(graph, x, f"{name}.{before_mlp}"), f"{name}.mlp")
        if traits.post_norms:
            y = _norm(graph, y, f"{name}.post_feedforward_layernorm")
        x = ops.add(x, y)
    x = _norm(graph, graph.wanted_rows(x), "model.norm")
    logits = graph.head(x, embedding=_EMBEDDING)
    return logits if traits.logit_cap is None else _bounded(logits, traits.logit_cap)


def _norm(graph: DecoderGraph, x: Node, name: str) -> Node:
    return graph.rms_norm(x, name, graph.config.hidden_size, offset=1.0)


def _bounded(x: Node, cap: float) -> Node:
    return ops.multiply(ops.tanh(ops.divide(x, floats(cap))), floats(cap))


def _attention(
    config: DecoderConfig, graph: DecoderGraph, traits: _Traits, layer: int, x: Node
) -> Node:
    name = f"model.layers.{layer}.self_attn"
    size, width = config.hidden_size, config.head_dim
    bias = config.fields.flag("attention_bias", default=False)

    def project(part: str, count: int) -> Node:
        y = graph.linear(x, f"{name}.{part}_proj", size, count * width, bias=bias)
        return graph.heads(y, count)

    query = project("q", config.num_attention_heads)
    key = project("k", config.num_key_value_heads)
    value = project("v", config.num_key_value_heads)
    if traits.query_key_norm:
        query = graph.rms_norm(query, f"{name}.q_norm", width, offset=1.0)
        key = graph.rms_norm(key, f"{name}.k_norm", width, offset=1.0)
    scale = 1.0 / math.sqrt(traits.query_scalar)
    y = graph.attention(layer, query, key, value, scale=scale)
    return graph.linear(y, f"{name}.o_proj", config.num_attention_heads * width, size, bias=bias)
