"""Small pieces that every part of a graph is made with: constants, and parts of values.

Equal constants are one node, for all graphs of this process: every layer has the same dozens, they
were half of the nodes, and the time to compile a graph goes by their number. So graphs are built by
one thread at a time.
"""

from functools import cache
from typing import Any

import numpy as np

from gatehouse.engines.llm.quiet_openvino import ops

# Nodes of a graph; OpenVINO has no types to speak of.
Node = Any


@cache
def floats(*values: float) -> Node:
    """A constant: a number, or a row of them."""
    array = np.array(values, np.float32)
    return ops.constant(array if len(values) > 1 else array.reshape(()))


@cache
def integers(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))


@cache
def number(kind: Any, value: float) -> Node:
    """A constant of one number, of a numpy type."""
    return ops.constant(kind(value))


@cache
def zeros(kind: Any, *shape: int) -> Node:
    """A constant full of zeros; with a size of 0, of nothing."""
    return ops.constant(np.zeros(shape, kind))


def split(x: Node, axis: int, *sizes: int) -> list[Node]:
    """Parts of `x` along an axis, of these sizes."""
    return list(ops.variadic_split(x, integers(axis), integers(*sizes)).outputs())


def part(x: Node, begin: int, end: int) -> Node:
    """The values from `begin` to `end` of the last of four dimensions."""
    return ops.slice(x, integers(begin), integers(end), integers(1), integers(3))
