"""Mixtures of experts: of Mixtral (arXiv:2401.04088), Qwen2 (2407.10671) and Qwen3 (2505.09388)."""

from dataclasses import dataclass

from gatehouse.engines.llm.config import MAX_INTERMEDIATE_SIZE, MAX_LAYERS, DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken
from gatehouse.engines.llm.experts import Experts, mixture
from gatehouse.engines.llm.families.llama import BuildMlp, Traits, decoder
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node

# Each is a dozen small operations of the graph: measured, a tenth of a millisecond a step even if
# no token chose it, and 20 ms of loading.
MAX_EXPERTS = 1024
_MIXTRAL_PARTS = ("w1", "w3", "w2")
_QWEN_PARTS = ("gate_proj", "up_proj", "down_proj")


def mixtral(config: DecoderConfig, graph: DecoderGraph) -> Node:
    count, chosen = _num_experts(config, 8, 2)

    def mlp(_: int, name: str, x: Node) -> Node:
        # What it was published as, and what transformers 5 calls it inside.
        by_itself = f"{name}.block_sparse_moe"
        mixture_name = by_itself if graph.weights.has(f"{by_itself}.gate.weight") else f"{name}.mlp"
        experts = Experts(
            mixture_name, _MIXTRAL_PARTS, count, chosen, config.intermediate_size, is_normed=True
        )
        return mixture(graph, experts, x)

    return decoder(config, graph, Traits(), mlp)


def qwen2_moe(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """Qwen2 with mixtures, of which one expert is given every token."""
    bias = config.fields.flag("qkv_bias", default=True)
    shared = config.fields.integer(
        "shared_expert_intermediate_size", MAX_INTERMEDIATE_SIZE, default=5632
    )
    mlp = _qwen_mlp(config, graph, _Defaults(60, 4, 1408), shared)
    return decoder(config, graph, Traits(query_key_value_bias=bias), mlp)


def qwen3_moe(config: DecoderConfig, graph: DecoderGraph) -> Node:
    bias = config.fields.flag("attention_bias", default=False)
    mlp = _qwen_mlp(config, graph, _Defaults(128, 8, 768))
    return decoder(config, graph, Traits(bias, bias, query_key_norm=True), mlp)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a family means if its configuration does not say."""

    num_experts: int
    num_chosen: int
    inner_size: int


def _qwen_mlp(
    config: DecoderConfig, graph: DecoderGraph, defaults: _Defaults, shared_size: int = 0
) -> BuildMlp:
    """All MLPs are mixtures, or every so many, save those of some layers."""
    fields = config.fields
    count, chosen = _num_experts(config, defaults.num_experts, defaults.num_chosen)
    inner = fields.integer(
        "moe_intermediate_size", MAX_INTERMEDIATE_SIZE, default=defaults.inner_size
    )
    is_normed = fields.flag("norm_topk_prob", default=False)
    every = fields.integer("decoder_sparse_step", MAX_LAYERS, default=1)
    plain = fields.value("mlp_only_layers") or []
    if not isinstance(plain, list):
        raise ConfigBroken("`mlp_only_layers` is not a list of layers.")

    def mlp(layer: int, name: str, x: Node) -> Node:
        if layer in plain or (layer + 1) % every:
            return graph.gated_mlp(x, f"{name}.mlp")
        experts = Experts(f"{name}.mlp", _QWEN_PARTS, count, chosen, inner, is_normed, shared_size)
        return mixture(graph, experts, x)

    return mlp


def _num_experts(config: DecoderConfig, default: int, chosen: int) -> tuple[int, int]:
    """How many there are, and how many of them are chosen."""
    name = "num_local_experts" if "num_local_experts" in config.fields else "num_experts"
    count = config.fields.integer(name, MAX_EXPERTS, default=default)
    if count * len(config.layers) > MAX_EXPERTS:
        raise ArchitectureUnknown("The model has more experts than this engine's graph can hold.")
    return count, config.fields.integer("num_experts_per_tok", count, default=min(chosen, count))
