"""Mixtral (arXiv:2401.04088) and the mixtures of experts of Qwen3 (arXiv:2505.09388)."""

from gatehouse.engines.llm.config import MAX_INTERMEDIATE_SIZE, MAX_LAYERS, DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken
from gatehouse.engines.llm.experts import Experts, mixture
from gatehouse.engines.llm.families.llama import Traits, decoder
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


def qwen3_moe(config: DecoderConfig, graph: DecoderGraph) -> Node:
    """Qwen3 whose MLPs are mixtures, all of them or every so many."""
    fields = config.fields
    bias = fields.flag("attention_bias", default=False)
    count, chosen = _num_experts(config, 128, 8)
    inner = fields.integer("moe_intermediate_size", MAX_INTERMEDIATE_SIZE, default=768)
    is_normed = fields.flag("norm_topk_prob", default=False)
    every = fields.integer("decoder_sparse_step", MAX_LAYERS, default=1)
    plain = fields.value("mlp_only_layers") or []
    if not isinstance(plain, list):
        raise ConfigBroken("`mlp_only_layers` is not a list of layers.")

    def mlp(layer: int, name: str, x: Node) -> Node:
        if layer in plain or (layer + 1) % every:
            return graph.gated_mlp(x, f"{name}.mlp")
        experts = Experts(f"{name}.mlp", _QWEN_PARTS, count, chosen, inner, is_normed)
        return mixture(graph, experts, x)

    return decoder(config, graph, Traits(bias, bias, query_key_norm=True), mlp)


def _num_experts(config: DecoderConfig, default: int, chosen: int) -> tuple[int, int]:
    """How many there are, and how many of them are chosen."""
    name = "num_local_experts" if "num_local_experts" in config.fields else "num_experts"
    count = config.fields.integer(name, MAX_EXPERTS, default=default)
    if count * len(config.layers) > MAX_EXPERTS:
        raise ArchitectureUnknown("The model has more experts than this engine's graph can hold.")
    return count, config.fields.integer("num_experts_per_tok", count, default=min(chosen, count))
