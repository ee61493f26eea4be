"""What a decoder's graph is given for every batch: the arrays of a `Batch`, and the blocks."""

from typing import Any

from gatehouse.engines.llm.nodes import Node
from gatehouse.engines.llm.quiet_openvino import openvino, ops


class GraphInputs:
    """The inputs of a graph; their names are those that the runner feeds.

    Attributes:
        parameters: All of them, in order.
        token_ids: See `Batch`, as are the next.
        positions: Of each token.
        sequences: `num_past`, `begins`, `block_ids` and `block_begins`.
        rows: The tokens after which logits are wanted.
        longest: How many tokens the longest sequence has, the new ones among them.
    """

    def __init__(self) -> None:
        self.parameters: list[Node] = []
        self.token_ids = self.add("token_ids", openvino.Type.i64, [-1])
        self.positions = self.add("positions", openvino.Type.i64, [-1])
        self.sequences = [
            self.add("num_past", openvino.Type.i32, [-1]),
            self.add("begins", openvino.Type.i32, [-1]),
            self.add("block_ids", openvino.Type.i32, [-1]),
            self.add("block_begins", openvino.Type.i32, [-1]),
        ]
        self.longest = self.add("longest", openvino.Type.i32, [])
        self.rows = self.add("rows", openvino.Type.i64, [-1])

    def add(self, name: str, kind: Any, shape: list[int]) -> Node:
        """One more input; -1 stands for a size that a batch gives."""
        parameter = ops.parameter(openvino.PartialShape(shape), kind)
        parameter.output(0).set_names({name})
        parameter.set_friendly_name(name)
        self.parameters.append(parameter)
        return parameter

    def add_blocks(self, layer: int) -> list[Node]:
        """The blocks of keys and those of values of a layer."""
        return [
            self.add(f"{kind}.{layer}", openvino.Type.dynamic, [-1, -1, -1, -1])
            for kind in ("keys", "values")
        ]
