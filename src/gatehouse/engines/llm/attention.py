"""Attention with its rotary embedding, over the kept keys and values of each layer."""

import math
from dataclasses import dataclass

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.graph_inputs import GraphInputs
from gatehouse.engines.llm.nodes import Node, floats, integers, part
from gatehouse.engines.llm.paged_attention import paged_attention
from gatehouse.engines.llm.quiet_openvino import ops
from gatehouse.engines.llm.rotary import RotaryParameters, rotary_table


@dataclass(frozen=True, slots=True)
class _Turns:
    """Cosine and sine of every token's angles; of shape (tokens, 1, 1, dim) each."""

    cosine: Node
    sine: Node
    dim: int


class Attention:
    """The attention of all layers of a decoder."""

    def __init__(self, config: DecoderConfig, inputs: GraphInputs) -> None:
        self._config = config
        self._inputs = inputs
        self._turns: dict[RotaryParameters, _Turns] = {}

    def attend(
        self, layer: int, query: Node, key: Node, value: Node, *, scale: float | None = None
    ) -> Node:
        """What a layer sees (PagedAttention, arXiv:2309.06180), after it told positions.

        Args:
            layer: Its number, which names its blocks; the configuration gives its window and its
                rotary embedding.
            query: Of shape (tokens, 1, num_attention_heads, head_dim).
            key: Of shape (tokens, 1, num_key_value_heads, head_dim), as is the next.
            value: See `key`.
            scale: What products of queries and keys are multiplied by; None: as is usual.

        Returns:
            Of shape (tokens, 1, num_attention_heads * head_dim).
        """
        config, inputs = self._config, self._inputs
        window, rotary = config.layers[layer].window, config.layers[layer].rotary
        if rotary is not None:
            query, key = self._turned(query, rotary), self._turned(key, rotary)
        flat = [ops.reshape(x, integers(0, -1), True) for x in (query, key, value)]
        factor = 1.0 / math.sqrt(config.head_dim) if scale is None else scale
        kept = inputs.add_blocks(layer)
        node = paged_attention(flat, kept, inputs.sequences, inputs.longest, factor, window or 0)
        # From these the plugin takes the shape of a block.
        for name in ("num_k_heads", "num_v_heads"):
            node.get_rt_info()[name] = config.num_key_value_heads
        for name in ("k_head_size", "v_head_size"):
            node.get_rt_info()[name] = config.head_dim
        width = config.num_attention_heads * config.head_dim
        return ops.reshape(node.output(0), integers(-1, 1, width), False)

    def _turned(self, x: Node, parameters: RotaryParameters) -> Node:
        """Turn the first `parameters.dim` values of each head by the token's angles.

        The halves of those values are the pairs, as in GPT-NeoX.
        """
        turns, head_dim = self._turns_of(parameters), self._config.head_dim
        x = ops.transpose(x, integers(0, 2, 1, 3))
        turned, rest = x, None
        if turns.dim < head_dim:
            turned, rest = part(x, 0, turns.dim), part(x, turns.dim, head_dim)
        low = part(turned, 0, turns.dim // 2)
        high = part(turned, turns.dim // 2, turns.dim)
        swapped = ops.concat([ops.multiply(high, floats(-1.0)), low], -1)
        turned = ops.add(ops.multiply(turned, turns.cosine), ops.multiply(swapped, turns.sine))
        if rest is not None:
            turned = ops.concat([turned, rest], -1)
        return ops.transpose(turned, integers(0, 2, 1, 3))

    def _turns_of(self, parameters: RotaryParameters) -> _Turns:
        """The angles of the batch's positions, made once for all layers alike."""
        if parameters not in self._turns:
            table = rotary_table(parameters)
            positions = ops.convert(ops.unsqueeze(self._inputs.positions, integers(1, 2)), "f32")
            angles = ops.multiply(positions, ops.constant(table.frequencies[None, None, :]))
            twice = ops.unsqueeze(ops.concat([angles, angles], -1), integers(1))
            cosine, sine = ops.cos(twice), ops.sin(twice)
            if table.attention_factor != 1.0:
                cosine = ops.multiply(cosine, floats(table.attention_factor))
                sine = ops.multiply(sine, floats(table.attention_factor))
            self._turns[parameters] = _Turns(cosine, sine, parameters.dim)
        return self._turns[parameters]
