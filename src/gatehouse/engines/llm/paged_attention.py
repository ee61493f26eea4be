"""The attention operation over blocks, which OpenVINO keeps to itself so far."""

from typing import Any

import numpy as np

from gatehouse.engines.llm.nodes import number, zeros
from gatehouse.engines.llm.quiet_openvino import openvino


def paged_attention(
    flat: list[Any], kept: list[Any], batch: list[Any], longest: Any, scale: float, window: int
) -> Any:
    """The node. The order and number of its inputs belong to the release that is pinned.

    Args:
        flat: Queries, keys and values; of shape (tokens, heads * head_dim) each.
        kept: The blocks of keys and those of values; of shape (blocks, heads, 32, head_dim) each.
        batch: What a `Batch` calls `num_past`, `begins`, `block_ids` and `block_begins`.
        longest: How many tokens the longest sequence has, the new ones among them.
        scale: What products of queries and keys are multiplied by.
        window: How many tokens are seen, the own among them; 0: all.
    """
    inputs = [
        *flat,
        *kept,
        *batch,
        number(np.float32, scale),
        number(np.int32, window),
        zeros(np.float32, 0),  # slopes of ALiBi
        longest,
        zeros(np.int32, 0),  # windows of attention scores
        zeros(np.int32, 0),  # blocks whose keys are turned again
        zeros(np.int32, 0),  # by how much
        zeros(np.float32, 0),  # with which angles
        zeros(np.float32, 0),  # sparse attention: thresholds
        zeros(np.int32),  # its block size
        zeros(np.int32),  # its stride
        zeros(np.float32, 0, 0, 0, 0),  # attention sinks
        zeros(np.int32),  # eviction of blocks: how many of the first stay
        zeros(np.int32, 0),  # how much is evicted
        zeros(np.int32, 0),  # which blocks count as different
        zeros(np.int32, 0),  # where each sequence's begin
        zeros(np.int32, 0),  # kinds of tokens
        zeros(np.uint8, 0),  # a mask among the new tokens
        zeros(np.int32, 0),  # where each sequence's begins
    ]
    return openvino.op._PagedAttentionExtension(  # noqa: SLF001 - there is no public one
        [node.output(0) for node in inputs]
    )
