"""The sizes of model that are measured, as `config.json` of a Llama knows them."""

import math
from dataclasses import dataclass

BYTES_PER_WEIGHT = 2  # bfloat16


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama without trained weights.

    Attributes:
        name: Its parameters, roughly.
        is_tied: Whether the head is the embedding.
    """

    name: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    is_tied: bool

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def layer_tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of one layer's tensors."""
        keys = self.num_key_value_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "input_layernorm.weight": (hidden,),
            "mlp.down_proj.weight": (hidden, inner),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "self_attn.q_proj.weight": (hidden, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors, in the order of the file."""
        rows = (self.vocab_size, self.hidden_size)
        named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": rows}
        if not self.is_tied:
            named["lm_head.weight"] = rows
        named["model.norm.weight"] = (self.hidden_size,)
        for number in range(self.num_hidden_layers):
            for name, shape in self.layer_tensors().items():
                named[f"model.layers.{number}.{name}"] = shape
        return named

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensors().values())

    @property
    def weight_bytes(self) -> int:
        return self.num_parameters * BYTES_PER_WEIGHT

    @property
    def bytes_per_token(self) -> int:
        """What one decoding step has to read of the weights: all but the rows of the embedding."""
        unread = 0 if self.is_tied else self.vocab_size * self.hidden_size
        return self.weight_bytes - unread * BYTES_PER_WEIGHT

    def config(self) -> dict[str, object]:
        """Without a token that ends a text: every engine then runs to the length asked for."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.is_tied,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "torch_dtype": "bfloat16",
            "bos_token_id": None,
            "eos_token_id": None,
        }


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("15M", 288, 768, 6, 6, 6, 32000, is_tied=True),
        Shape("135M", 576, 1536, 30, 9, 3, 49152, is_tied=True),
        Shape("1.1B", 2048, 5632, 22, 32, 4, 32000, is_tied=False),
    )
}
