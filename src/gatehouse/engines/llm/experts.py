"""A mixture of experts (arXiv:2401.04088): of many MLPs, a router chooses a few for every token.

Each expert has matrices of its own in the graph and is given just the tokens that chose it: what
no token chose is not read. OpenVINO could do all experts in one batched product; measured with
2026.4.1, a row of that depends on how many other rows there are, and rows here must not.
"""

from dataclasses import dataclass, replace

import numpy as np

from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.nodes import Node, floats, integers, split
from gatehouse.engines.llm.quiet_openvino import ops
from gatehouse.engines.llm.weights import StoredTensor

# Of an expert that runs at all: with fewer, int8 products take another kernel, whose last bits
# differ (and float32 ones with one).
MIN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Experts:
    """A layer's experts, as the configuration describes them.

    Attributes:
        name: Of the layer's mixture among the tensors, such as `model.layers.0.mlp`.
        parts: What the three matrices of an expert stored by itself are called: gate, up, down.
        num_experts: How many there are.
        num_chosen: How many each token is given to.
        inner_size: Of an expert's MLP.
        is_normed: Whether the weights of those chosen sum to one.
        shared_size: Of the MLP of an expert that is given every token; 0: there is none.
    """

    name: str
    parts: tuple[str, str, str]
    num_experts: int
    num_chosen: int
    inner_size: int
    is_normed: bool
    shared_size: int = 0


def mixture(graph: DecoderGraph, experts: Experts, x: Node) -> Node:
    """What the chosen experts make of each token, in sum.

    Raises:
        WeightsBroken: A tensor is missing, or not of the shape that the configuration gives it.
    """
    size = graph.config.hidden_size
    tokens = ops.reshape(x, integers(-1, size), False)
    shares = _shares(graph, experts, tokens)
    total = ops.multiply(tokens, floats(0.0))
    for expert in range(experts.num_experts):
        total = _add_expert(graph, experts, expert, tokens, shares, total)
    if experts.shared_size:
        total = ops.add(total, _shared_expert(graph, experts, tokens))
    return ops.reshape(total, integers(-1, 1, size), False)


def _shares(graph: DecoderGraph, experts: Experts, tokens: Node) -> Node:
    """The weight of every expert for every token, mostly zero; of shape (tokens, experts)."""
    size, count = graph.config.hidden_size, experts.num_experts
    # Never quantized: it is small, and decides.
    router = graph.weights.plain(f"{experts.name}.gate.weight", count, size)
    routed = ops.softmax(ops.matmul(tokens, router, False, True), -1)
    num_chosen = ops.constant(np.int64(experts.num_chosen))
    weights, indices = ops.topk(
        routed, num_chosen, -1, "max", "value", "i64", stable=True
    ).outputs()
    if experts.is_normed:
        weights = ops.divide(weights, ops.reduce_sum(weights, integers(-1), True))
    nothing = ops.multiply(routed, floats(0.0))
    return ops.scatter_elements_update(nothing, indices, weights, ops.constant(np.int64(1)))


def _add_expert(
    graph: DecoderGraph, experts: Experts, expert: int, tokens: Node, shares: Node, total: Node
) -> Node:
    """`total`, to which is added what the expert gives for the tokens that chose it."""
    axis = ops.constant(np.int64(0))
    share = ops.gather(shares, integers(expert), ops.constant(np.int64(1)))
    own = ops.reshape(
        ops.non_zero(ops.reshape(share, integers(-1), False), "i64"), integers(-1), False
    )
    # As the runner does for a whole batch: so many rows that none goes the way of few. The first
    # is repeated; where there is none, none is.
    first = ops.slice(own, integers(0), integers(1), integers(1), integers(0))
    rows = ops.concat([own, ops.tile(first, integers(MIN_ROWS - 1))], 0)
    given = _expert(graph, experts, expert, ops.gather(tokens, rows, axis))
    given = ops.slice(given, integers(0), ops.shape_of(own, "i64"), integers(1), integers(0))
    weighed = ops.multiply(given, ops.gather(share, own, axis))
    return ops.scatter_update(total, own, ops.add(ops.gather(total, own, axis), weighed), axis)


def _shared_expert(graph: DecoderGraph, experts: Experts, tokens: Node) -> Node:
    """What the expert for every token gives, each by how much its gate lets through."""
    size, inner = graph.config.hidden_size, experts.shared_size
    name = f"{experts.name}.shared_expert"
    gate, up, down = (f"{name}.{part}" for part in experts.parts)
    y = graph.gated(graph.linear(tokens, gate, size, inner), graph.linear(tokens, up, size, inner))
    opening = graph.weights.plain(f"{name}_gate.weight", 1, size)
    opened = ops.sigmoid(ops.matmul(tokens, opening, False, True))
    return ops.multiply(opened, graph.linear(y, down, inner, size))


def _expert(graph: DecoderGraph, experts: Experts, expert: int, x: Node) -> Node:
    """The expert's gated MLP."""
    size, inner = graph.config.hidden_size, experts.inner_size
    fused = f"{experts.name}.experts.gate_up_proj"
    if graph.weights.has(fused):
        # As transformers 5 holds them: all experts in one tensor, gate before up.
        count = experts.num_experts
        gate_up = _slice(graph.weights.stored(fused, count, 2 * inner, size), expert)
        down = _slice(
            graph.weights.stored(f"{experts.name}.experts.down_proj", count, size, inner), expert
        )
        y = ops.matmul(x, graph.weights.matrix_of(gate_up, f"{fused}.{expert}"), False, True)
        gate, up = split(y, 1, inner, inner)
        matrix = graph.weights.matrix_of(down, f"{experts.name}.experts.down_proj.{expert}")
        return ops.matmul(graph.gated(gate, up), matrix, False, True)
    gate, up, down_ = (f"{experts.name}.experts.{expert}.{part}" for part in experts.parts)
    y = graph.gated(graph.linear(x, gate, size, inner), graph.linear(x, up, size, inner))
    return graph.linear(y, down_, inner, size)


def _slice(tensor: StoredTensor, place: int) -> StoredTensor:
    """One of the matrices that lie behind one another in a tensor."""
    shape = tensor.shape[1:]
    step = tensor.num_bytes // tensor.shape[0]
    return replace(tensor, shape=shape, place=tensor.place + place * step)
