"""The parts of a decoder as OpenVINO operations, so that a family reads like its paper.

Hidden states are of shape (tokens, 1, size): the tokens of all sequences of a batch, end to end.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.config import DecoderConfig
from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken
from gatehouse.engines.llm.paged_attention import paged_attention
from gatehouse.engines.llm.quantization import Quantize, QuantizedMatrix, quantize_int8
from gatehouse.engines.llm.quiet_openvino import openvino, ops
from gatehouse.engines.llm.rotary import RotaryParameters, rotary_table
from gatehouse.engines.llm.weights import Checkpoint, StoredTensor, WeightsBroken

# Nodes of a graph; OpenVINO has no types to speak of.
Node = Any

_TYPES = {"F32": openvino.Type.f32, "F16": openvino.Type.f16, "BF16": openvino.Type.bf16}

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


@dataclass(frozen=True, slots=True)
class Turns:
    """Cosine and sine of every token's angles; of shape (tokens, 1, 1, dim) each."""

    cosine: Node
    sine: Node
    dim: int


def floats(*values: float) -> Node:
    """A constant: a number, or a row of them."""
    array = np.array(values, np.float32)
    return ops.constant(array if len(values) > 1 else array.reshape(()))


def integers(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))


class DecoderGraph:
    """Collects the graph of one decoder: its inputs, its weights and the parts it is made of.

    Every tensor is checked against the shape that the configuration gives it.

    Attributes:
        config: The decoder's shape.
        parameters: The inputs, in order.
        borrowed: What must live as long as the graph runs: it only points into these.
        num_weight_bytes: Of all weights in it.
    """

    def __init__(
        self, config: DecoderConfig, checkpoint: Checkpoint, quantize: Quantize | None = None
    ) -> None:
        self.config = config
        self.parameters: list[Node] = []
        self.borrowed: list[Any] = []
        self.num_weight_bytes = 0
        self._checkpoint = checkpoint
        self._quantize = quantize
        self._weights: dict[str, Node] = {}
        self._turns: dict[RotaryParameters, Turns] = {}
        self._tables: set[str] = set()
        self._token_ids = self._input("token_ids", openvino.Type.i64, [-1])
        self._positions = self._input("positions", openvino.Type.i64, [-1])
        self._batch = [
            self._input("num_past", openvino.Type.i32, [-1]),
            self._input("begins", openvino.Type.i32, [-1]),
            self._input("block_ids", openvino.Type.i32, [-1]),
            self._input("block_begins", openvino.Type.i32, [-1]),
        ]
        self._longest = self._input("longest", openvino.Type.i32, [])
        self._rows = self._input("rows", openvino.Type.i64, [-1])

    def _input(self, name: str, kind: Any, shape: list[int]) -> Node:
        parameter = ops.parameter(openvino.PartialShape(shape), kind)
        parameter.output(0).set_names({name})
        parameter.set_friendly_name(name)
        self.parameters.append(parameter)
        return parameter

    # -- weights --------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the model's files hold a tensor of this name."""
        return name in self._checkpoint

    def stored(self, name: str, *shape: int) -> StoredTensor:
        """A tensor of the model's files.

        Raises:
            WeightsBroken: It is missing, or of another shape.
        """
        tensor = self._checkpoint.get(name)
        if tensor is None:
            raise WeightsBroken(f"The files of weights hold no tensor `{name}`.")
        if tensor.shape != shape:
            raise WeightsBroken(
                f"The tensor `{name}` is of shape {list(tensor.shape)}; by `config.json` it "
                f"should be {list(shape)}."
            )
        return tensor

    def weight(self, name: str, *shape: int) -> Node:
        """A tensor as float32 values; its bytes stay in the file's map.

        Raises:
            WeightsBroken: It is missing, or of another shape.
        """
        if name not in self._weights:
            self._weights[name] = self.constant(self.stored(name, *shape), name)
        return self._weights[name]

    def constant(self, tensor: StoredTensor, name: str) -> Node:
        """The values of a tensor, as float32; its bytes stay where they are."""
        node = self._shared(tensor.array(), tensor.shape, _TYPES[tensor.dtype], name)
        if tensor.dtype == "F32":
            return node
        # The mark keeps the plugin from making float32 constants of all weights: they are then
        # repacked as they are stored, and nothing else of them is kept.
        wide = ops.convert(node, "f32")
        wide.get_rt_info()["decompression_0"] = True
        return wide

    def _shared(
        self, array: NDArray[Any], shape: tuple[int, ...], kind: Any, name: str = ""
    ) -> Node:
        """A constant that points into an array."""
        shared = openvino.Tensor(array, openvino.Shape(list(shape)), kind)
        self.borrowed += [array, shared]
        self.num_weight_bytes += array.nbytes
        node = openvino.op.Constant(shared, shared_memory=True)
        if name:
            node.set_friendly_name(name)
        return node

    def matrix(self, name: str, num_out: int, num_in: int) -> Node:
        """The weights of a linear layer, of shape (out, in); quantized if weights are to be.

        Raises:
            WeightsBroken: They are missing, of another shape, or cannot be quantized.
        """
        if self._quantize is None:
            return self.weight(name, num_out, num_in)
        return self.matrix_of(self.stored(name, num_out, num_in), name)

    def matrix_of(self, tensor: StoredTensor, name: str) -> Node:
        """As `matrix`, of a tensor of shape (out, in)."""
        if self._quantize is None:
            return self.constant(tensor, name)
        return self._quantized(self._quantize(name, tensor), name)

    def _quantized(self, matrix: QuantizedMatrix, name: str) -> Node:
        num_out, num_in = matrix.shape
        num_groups = matrix.scales.shape[1]
        grouped = (num_out, num_groups, num_in // num_groups)
        shape = matrix.shape if num_groups == 1 else grouped
        kind = openvino.Type.i8 if matrix.num_bits == 8 else openvino.Type.i4
        # Just this chain is what the CPU plugin takes into its products as it is.
        whole = ops.convert(self._shared(matrix.values, shape, kind, name), "f32")
        scales = self._shared(matrix.scales, (*shape[:-1], 1), openvino.Type.f32)
        wide = ops.multiply(whole, scales)
        return wide if num_groups == 1 else ops.reshape(wide, integers(num_out, num_in), False)

    def check_tables(self) -> None:
        """Look through the embedding, of which a batch meets only some rows.

        All else shows when two tokens are run, save the experts that they are not sent to.

        Raises:
            WeightsBroken: They hold what is no finite number.
        """
        for name in self._tables:
            if not self._checkpoint[name].is_finite():
                raise WeightsBroken(f"The tensor `{name}` holds numbers that are not finite.")

    # -- layers ---------------------------------------------------------------------------------

    def embedding(self, name: str) -> Node:
        """The vectors of the batch's tokens."""
        table = self.weight(name, self.config.vocabulary_size, self.config.hidden_size)
        if not self.config.tied_embeddings:
            self._tables.add(name)
        ids = ops.unsqueeze(ops.convert(self._token_ids, "i32"), integers(1))
        return ops.gather(table, ids, ops.constant(np.int32(0)))

    def learned_positions(self, name: str, count: int) -> Node:
        """The vectors of the batch's positions, of which the model learned `count`."""
        table = self.weight(name, count, self.config.hidden_size)
        positions = ops.unsqueeze(ops.convert(self._positions, "i32"), integers(1))
        return ops.gather(table, positions, ops.constant(np.int32(0)))

    def linear(self, x: Node, name: str, num_in: int, num_out: int, *, bias: bool = False) -> Node:
        """`x W^T`, plus a bias where there is one."""
        y = ops.matmul(x, self.matrix(f"{name}.weight", num_out, num_in), False, True)
        return ops.add(y, self.weight(f"{name}.bias", num_out)) if bias else y

    def conv1d(self, x: Node, name: str, num_in: int, num_out: int) -> Node:
        """`x W + b`: a linear layer whose weights are stored as (in, out), as GPT-2 does."""
        weight = f"{name}.weight"
        if self._quantize is None:
            y = ops.matmul(x, self.weight(weight, num_in, num_out), False, False)
        else:
            matrix = self.matrix_of(self.stored(weight, num_in, num_out).transposed(), weight)
            y = ops.matmul(x, matrix, False, True)
        return ops.add(y, self.weight(f"{name}.bias", num_out))

    def rms_norm(self, x: Node, name: str, size: int, *, offset: float = 0.0) -> Node:
        """Root mean square norm (arXiv:1910.07467); `offset` is added to the weight."""
        weight = (
            # Added here and now: the plugin would do it in every step, if it compiles that at all.
            ops.constant(self.stored(f"{name}.weight", size).floats() + np.float32(offset))
            if offset
            else self.weight(f"{name}.weight", size)
        )
        # Just this chain is what the CPU plugin makes one operation of.
        square = ops.reduce_mean(ops.power(x, floats(2.0)), integers(-1), True)
        root = ops.sqrt(ops.add(square, floats(self.config.norm_epsilon)))
        return ops.multiply(ops.multiply(x, ops.divide(floats(1.0), root)), weight)

    def layer_norm(self, x: Node, name: str, size: int, *, bias: bool = True) -> Node:
        """Layer norm (arXiv:1607.06450) over the last dimension."""
        centred = ops.mvn(x, integers(-1), True, self.config.norm_epsilon, "inside_sqrt")
        scaled = ops.multiply(centred, self.weight(f"{name}.weight", size))
        return ops.add(scaled, self.weight(f"{name}.bias", size)) if bias else scaled

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

    def check_plain_heads(self) -> None:
        """For families whose heads neither share keys nor have a size of their own.

        Raises:
            ConfigBroken: The configuration says otherwise.
        """
        config = self.config
        heads = config.num_attention_heads
        if config.num_key_value_heads != heads or heads * config.head_dim != config.hidden_size:
            raise ConfigBroken("The numbers of attention heads do not fit the model's family.")

    def heads(self, x: Node, count: int) -> Node:
        """Split the last dimension: (tokens, 1, count, head_dim)."""
        return ops.reshape(x, integers(0, 0, count, self.config.head_dim), True)

    # -- attention ------------------------------------------------------------------------------

    def turns(self, parameters: RotaryParameters) -> Turns:
        """The angles of the batch's positions, made once for all layers alike."""
        if parameters not in self._turns:
            table = rotary_table(parameters)
            positions = ops.convert(ops.unsqueeze(self._positions, integers(1, 2)), "f32")
            angles = ops.multiply(positions, ops.constant(table.frequencies[None, None, :]))
            twice = ops.unsqueeze(ops.concat([angles, angles], -1), integers(1))
            cosine, sine = ops.cos(twice), ops.sin(twice)
            if table.attention_factor != 1.0:
                cosine = ops.multiply(cosine, floats(table.attention_factor))
                sine = ops.multiply(sine, floats(table.attention_factor))
            self._turns[parameters] = Turns(cosine, sine, parameters.dim)
        return self._turns[parameters]

    def rotate(self, x: Node, parameters: RotaryParameters) -> Node:
        """Turn the first `parameters.dim` values of each head by the token's angles.

        The halves of those values are the pairs, as in GPT-NeoX. `x` is what `heads` gives.
        """
        turns = self.turns(parameters)
        x = ops.transpose(x, integers(0, 2, 1, 3))
        turned, rest = x, None
        if turns.dim < self.config.head_dim:
            turned = _part(x, 0, turns.dim)
            rest = _part(x, turns.dim, self.config.head_dim)
        low = _part(turned, 0, turns.dim // 2)
        high = _part(turned, turns.dim // 2, turns.dim)
        swapped = ops.concat([ops.multiply(high, floats(-1.0)), low], -1)
        turned = ops.add(ops.multiply(turned, turns.cosine), ops.multiply(swapped, turns.sine))
        if rest is not None:
            turned = ops.concat([turned, rest], -1)
        return ops.transpose(turned, integers(0, 2, 1, 3))

    def attention(
        self,
        layer: int,
        query: Node,
        key: Node,
        value: Node,
        *,
        window: int | None = None,
        scale: float | None = None,
    ) -> Node:
        """Attention over the kept keys and values (PagedAttention, arXiv:2309.06180).

        Args:
            layer: Its number, which names its blocks.
            query: What `heads` gives, as are the next two.
            key: Of `num_key_value_heads`.
            value: Of `num_key_value_heads`.
            window: How many tokens are seen, the own among them; None: all.
            scale: What products of queries and keys are multiplied by; None: as is usual.

        Returns:
            Of shape (tokens, 1, num_attention_heads * head_dim).
        """
        config = self.config
        kept = [
            self._input(f"{kind}.{layer}", openvino.Type.dynamic, [-1, -1, -1, -1])
            for kind in ("keys", "values")
        ]
        flat = [ops.reshape(x, integers(0, -1), True) for x in (query, key, value)]
        factor = 1.0 / math.sqrt(config.head_dim) if scale is None else scale
        node = paged_attention(flat, kept, self._batch, self._longest, factor, window or 0)
        # From these the plugin takes the shape of a block.
        for name in ("num_k_heads", "num_v_heads"):
            node.get_rt_info()[name] = config.num_key_value_heads
        for name in ("k_head_size", "v_head_size"):
            node.get_rt_info()[name] = config.head_dim
        width = config.num_attention_heads * config.head_dim
        return ops.reshape(node.output(0), integers(-1, 1, width), False)

    # -- the end --------------------------------------------------------------------------------

    def wanted_rows(self, x: Node) -> Node:
        """The tokens after which logits are wanted: only those meet the vocabulary."""
        return ops.gather(x, self._rows, ops.constant(np.int64(0)))

    def head(self, x: Node, name: str = "lm_head", embedding: str = "") -> Node:
        """Logits; with the matrix of `embedding` if the configuration ties the two."""
        config = self.config
        matrix = embedding if config.tied_embeddings else f"{name}.weight"
        shape = (config.vocabulary_size, config.hidden_size)
        if self._quantize is None:
            table = self.weight(matrix, *shape)
        else:
            # In 8 bits it loses nothing that could be measured; in 4, two tokens of a hundred.
            table = self._quantized(quantize_int8(matrix, self.stored(matrix, *shape)), matrix)
        return ops.matmul(x, table, False, True)


def split(x: Node, axis: int, *sizes: int) -> list[Node]:
    """Parts of `x` along an axis, of these sizes."""
    return list(ops.variadic_split(x, integers(axis), integers(*sizes)).outputs())


def _part(x: Node, begin: int, end: int) -> Node:
    return ops.slice(x, integers(begin), integers(end), integers(1), integers(3))
