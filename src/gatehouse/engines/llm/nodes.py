"""Small pieces that every part of a graph is made with: constants, and parts of values."""

from typing import Any

import numpy as np

from gatehouse.engines.llm.quiet_openvino import ops

# Nodes of a graph; OpenVINO has no types to speak of.
Node = Any


def floats(*values: float) -> Node:
    """A constant: a number, or a row of them."""
    array = np.array(values, np.float32)
    return ops.constant(array if len(values) > 1 else array.reshape(()))


def integers(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))


def split(x: Node, axis: int, *sizes: int) -> list[Node]:
    """Parts of `x` along an axis, of these sizes."""
    return list(ops.variadic_split(x, integers(axis), integers(*sizes)).outputs())


def part(x: Node, begin: int, end: int) -> Node:
    """The values from `begin` to `end` of the last of four dimensions."""
    return ops.slice(x, integers(begin), integers(end), integers(1), integers(3))
