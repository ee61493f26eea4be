"""The parts of a decoder as OpenVINO operations, so that a family reads like its paper.

Hidden states are of shape (tokens, 1, size): the tokens of all sequences of a batch, end to end.
"""

from typing import Any

import numpy as np

from gatehouse.engines.llm.adapter_graph import AdapterGraph
from gatehouse.engines.llm.attention import Attention
from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken
from gatehouse.engines.llm.graph_inputs import GraphInputs
from gatehouse.engines.llm.graph_weights import GraphWeights
from gatehouse.engines.llm.nodes import Node, floats, integers
from gatehouse.engines.llm.quantized_matrices import QuantizedMatrices
from gatehouse.engines.llm.quiet_openvino import ops
from gatehouse.engines.llm.weights import Checkpoint

ACTIVATIONS = {
    "silu": ops.swish,
    "swish": ops.swish,
    "gelu": lambda x: ops.gelu(x, "erf"),
    "gelu_new": lambda x: ops.gelu(x, "tanh"),
    "gelu_fast": lambda x: ops.gelu(x, "tanh"),
    "gelu_pytorch_tanh": lambda x: ops.gelu(x, "tanh"),
    "relu": ops.relu,
}
_GELUS = frozenset(name for name in ACTIVATIONS if name.startswith("gelu"))


class DecoderGraph:
    """The graph of one decoder while it is built: its layers, over its inputs and its weights.

    Every tensor is checked against the shape that the configuration gives it.

    Attributes:
        config: The decoder's shape.
        inputs: What a batch gives.
        weights: What the model's files hold.
        adapters: What is beside its linear layers; None if it takes no adapters.
    """

    def __init__(
        self,
        config: DecoderConfig,
        checkpoint: Checkpoint,
        matrices: QuantizedMatrices | None = None,
        adapter_type: Any = None,
    ) -> None:
        self.config = config
        self.inputs = GraphInputs()
        self.weights = GraphWeights(checkpoint, matrices)
        self._attention = Attention(config, self.inputs)
        self.adapters = AdapterGraph(self.inputs, adapter_type) if adapter_type else None
        self._tables: set[str] = set()

    @property
    def parameters(self) -> list[Node]:
        """The inputs, in order."""
        return self.inputs.parameters

    @property
    def borrowed(self) -> list[Any]:
        """What must live as long as the graph runs: it only points into these."""
        return self.weights.borrowed

    @property
    def num_weight_bytes(self) -> int:
        """Of all weights in it."""
        return self.weights.num_bytes

    def check_tables(self) -> None:
        """Look through the embeddings, of which a batch meets only some rows.

        All else shows when two tokens are run, save the experts that they are not sent to.

        Raises:
            WeightsBroken: They hold what is no finite number.
        """
        for name in self._tables:
            self.weights.check_finite(name)

    def check_plain_heads(self) -> None:
        """For families whose heads neither share keys nor have a size of their own.

        Raises:
            ConfigBroken: The configuration says otherwise.
        """
        config = self.config
        heads = config.num_attention_heads
        if config.num_key_value_heads != heads or heads * config.head_dim != config.hidden_size:
            raise ConfigBroken("The numbers of attention heads do not fit the model's family.")

    def embedding(self, name: str) -> Node:
        """The vectors of the batch's tokens."""
        table = self.weights.plain(name, self.config.vocabulary_size, self.config.hidden_size)
        if not self.config.tied_embeddings:
            self._tables.add(name)
        ids = ops.unsqueeze(ops.convert(self.inputs.token_ids, "i32"), integers(1))
        return ops.gather(table, ids, ops.constant(np.int32(0)))

    def learned_positions(self, name: str, count: int) -> Node:
        """The vectors of the batch's positions, of which the model learned `count`."""
        table = self.weights.plain(name, count, self.config.hidden_size)
        self._tables.add(name)
        positions = ops.unsqueeze(ops.convert(self.inputs.positions, "i32"), integers(1))
        return ops.gather(table, positions, ops.constant(np.int32(0)))

    def linear(self, x: Node, name: str, num_in: int, num_out: int, *, bias: bool = False) -> Node:
        """`x W^T`, plus a bias where there is one."""
        y = ops.matmul(x, self.weights.matrix(f"{name}.weight", num_out, num_in), False, True)
        y = ops.add(y, self.weights.plain(f"{name}.bias", num_out)) if bias else y
        return self._adapted(x, y, name, num_in, num_out)

    def conv1d(self, x: Node, name: str, num_in: int, num_out: int) -> Node:
        """`x W + b`: a linear layer whose weights are stored as (in, out), as GPT-2 does."""
        weights, weight = self.weights, f"{name}.weight"
        if weights.are_quantized:
            matrix = weights.matrix_of(weights.stored(weight, num_in, num_out).transposed(), weight)
            y = ops.matmul(x, matrix, False, True)
        else:
            y = ops.matmul(x, weights.plain(weight, num_in, num_out), False, False)
        y = ops.add(y, weights.plain(f"{name}.bias", num_out))
        return self._adapted(x, y, name, num_in, num_out)

    def _adapted(self, x: Node, y: Node, name: str, num_in: int, num_out: int) -> Node:
        return self.adapters.adapted(x, y, name, num_in, num_out) if self.adapters else y

    def rms_norm(self, x: Node, name: str, size: int, *, offset: float = 0.0) -> Node:
        """Root mean square norm (arXiv:1910.07467); `offset` is added to the weight."""
        weight = (
            # Added here and now: the plugin would do it in every step, if it compiles that at all.
            ops.constant(self.weights.stored(f"{name}.weight", size).floats() + np.float32(offset))
            if offset
            else self.weights.plain(f"{name}.weight", size)
        )
        # Just this chain is what the CPU plugin makes one operation of.
        square = ops.reduce_mean(ops.power(x, floats(2.0)), integers(-1), True)
        root = ops.sqrt(ops.add(square, floats(self.config.norm_epsilon)))
        return ops.multiply(ops.multiply(x, ops.divide(floats(1.0), root)), weight)

    def layer_norm(self, x: Node, name: str, size: int, *, bias: bool = True) -> Node:
        """Layer norm (arXiv:1607.06450) over the last dimension."""
        centred = ops.mvn(x, integers(-1), True, self.config.norm_epsilon, "inside_sqrt")
        scaled = ops.multiply(centred, self.weights.plain(f"{name}.weight", size))
        return ops.add(scaled, self.weights.plain(f"{name}.bias", size)) if bias else scaled

    def activation(self, x: Node) -> Node:
        """The MLP's function, as the configuration names it.

        Raises:
            ArchitectureUnknown: It is none of those known here.
        """
        function = ACTIVATIONS.get(self.config.activation)
        if function is None:
            raise ArchitectureUnknown("The model has an activation without a graph here.")
        return function(x)

    def gated_mlp(self, x: Node, name: str, *, bias: bool = False) -> Node:
        """A gated linear unit (arXiv:2002.05202)."""
        size, inner = self.config.hidden_size, self.config.intermediate_size
        gate = self.linear(x, f"{name}.gate_proj", size, inner, bias=bias)
        up = self.linear(x, f"{name}.up_proj", size, inner, bias=bias)
        return self.linear(self.gated(gate, up), f"{name}.down_proj", inner, size, bias=bias)

    def gated(self, gate: Node, up: Node) -> Node:
        """`up` times the activation of `gate`."""
        active = self.activation(gate)
        if self.config.activation in _GELUS:
            # Of this product with nothing between, OpenVINO 2026.4.1 makes its fused MLP, which
            # for GELU in bfloat16 divides by zero as it is compiled, and the process dies.
            # Doubling and halving change no bit of the result.
            active, up = ops.multiply(active, floats(2.0)), ops.multiply(up, floats(0.5))
        return ops.multiply(active, up)

    def heads(self, x: Node, count: int) -> Node:
        """Split the last dimension: (tokens, 1, count, head_dim)."""
        return ops.reshape(x, integers(0, 0, count, self.config.head_dim), True)

    def attention(
        self, layer: int, query: Node, key: Node, value: Node, *, scale: float | None = None
    ) -> Node:
        """See `Attention.attend`; `query`, `key` and `value` are what `heads` gives."""
        return self._attention.attend(layer, query, key, value, scale=scale)

    def wanted_rows(self, x: Node) -> Node:
        """The tokens after which logits are wanted: only those meet the vocabulary."""
        return ops.gather(x, self.inputs.rows, ops.constant(np.int64(0)))

    def head(self, x: Node, name: str = "lm_head", embedding: str = "") -> Node:
        """Logits; with the matrix of `embedding` if the configuration ties the two."""
        config = self.config
        matrix = embedding if config.tied_embeddings else f"{name}.weight"
        table = self.weights.head(matrix, config.vocabulary_size, config.hidden_size)
        return ops.matmul(x, table, False, True)
