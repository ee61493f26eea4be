"""What the graph does for adapters: a branch beside each linear layer."""

from typing import Any

from gatehouse.engines.llm.adapter_files import LinearShape
from gatehouse.engines.llm.graph_inputs import GraphInputs
from gatehouse.engines.llm.nodes import Node, floats
from gatehouse.engines.llm.quiet_openvino import openvino, ops

_WHOLE_RANK = 3


class AdapterGraph:
    """Adds to each linear layer `((x down^T) where the row is the token's) up`.

    The rows of all adapters in memory lie behind one another; a token sees those of its own adapter
    and exact zeros of all others (as in Punica, arXiv:2310.18547, which gathers them instead).

    Attributes:
        layers: The linear layers that can be adapted, by name.
    """

    def __init__(self, inputs: GraphInputs, kind: Any) -> None:
        """Begin with no layer.

        Args:
            inputs: Of the graph.
            kind: The type of the matrices.
        """
        self.layers: dict[str, LinearShape] = {}
        self._inputs = inputs
        self._kind = kind
        self._seen = inputs.add("adapter_rows", openvino.Type.boolean, [-1, 1, -1])

    def adapted(self, x: Node, y: Node, name: str, num_in: int, num_out: int) -> Node:
        """What a layer gives, `y`, with what the tokens' adapters add."""
        # The tokens of an expert are not those of the batch, hence not in its order.
        if x.get_output_partial_shape(0).rank.get_length() != _WHOLE_RANK:
            return y
        self.layers[name] = LinearShape(num_in, num_out)
        down = self._matrix(f"down.{name}", num_in)
        up = self._matrix(f"up.{name}", num_out)
        # Chosen, not multiplied by zero: what overflows for one adapter is none of the others'.
        narrow = ops.select(self._seen, ops.matmul(x, down, False, True), floats(0.0))
        return ops.add(y, ops.matmul(narrow, up, False, False))

    def _matrix(self, name: str, width: int) -> Node:
        parameter = self._inputs.add(name, self._kind, [-1, width])
        return ops.convert(parameter, "f32")
