"""The graphs of decoder families, by the class name or model type that `config.json` gives."""

from collections.abc import Callable

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown
from gatehouse.engines.llm.families import gemma, gpt2, gpt_neox, llama, mixtral, phi3
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node

# Builds a family's graph and gives its logits.
BuildDecoder = Callable[[DecoderConfig, DecoderGraph], Node]

FAMILIES: dict[str, BuildDecoder] = {
    "LlamaForCausalLM": llama.llama,
    "MistralForCausalLM": llama.mistral,
    "Qwen2ForCausalLM": llama.qwen2,
    "Qwen3ForCausalLM": llama.qwen3,
    "SmolLM3ForCausalLM": llama.smollm3,
    "GPT2LMHeadModel": gpt2.gpt2,
    "GPTNeoXForCausalLM": gpt_neox.gpt_neox,
    "Phi3ForCausalLM": phi3.phi3,
    "GemmaForCausalLM": gemma.gemma,
    "Gemma2ForCausalLM": gemma.gemma2,
    "Gemma3ForCausalLM": gemma.gemma3,
    "MixtralForCausalLM": mixtral.mixtral,
    "Qwen2MoeForCausalLM": mixtral.qwen2_moe,
    "Qwen3MoeForCausalLM": mixtral.qwen3_moe,
    "llama": llama.llama,
    "mistral": llama.mistral,
    "qwen2": llama.qwen2,
    "qwen3": llama.qwen3,
    "smollm3": llama.smollm3,
    "gpt2": gpt2.gpt2,
    "gpt_neox": gpt_neox.gpt_neox,
    "phi3": phi3.phi3,
    "mixtral": mixtral.mixtral,
    "qwen2_moe": mixtral.qwen2_moe,
    "qwen3_moe": mixtral.qwen3_moe,
    "gemma": gemma.gemma,
    "gemma2": gemma.gemma2,
    "gemma3_text": gemma.gemma3,
}


def family_of(architecture: str) -> BuildDecoder:
    """What builds the graph of this architecture.

    Raises:
        ArchitectureUnknown: It has none here.
    """
    build = FAMILIES.get(architecture)
    if build is None:
        raise ArchitectureUnknown("This engine has no graph for the model's architecture.")
    return build
