"""Runs a decoder's graph on the processor with OpenVINO."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.llm.config import DecoderConfig, read_config
from gatehouse.engines.llm.config_fields import ArchitectureUnknown
from gatehouse.engines.llm.families import FAMILIES
from gatehouse.engines.llm.layers import DecoderGraph, Node, integers
from gatehouse.engines.llm.quiet_openvino import openvino, ops
from gatehouse.engines.llm.runner import Batch, Logits
from gatehouse.engines.llm.weights import Checkpoint


class Precision(StrEnum):
    """What is computed and kept in what."""

    DEFAULT = "default"  # bfloat16 where the processor has it
    EXACT = "exact"  # float32 throughout


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How to run a model.

    Attributes:
        precision: Of the computation, the keys and the values.
        num_threads: Of the computation.
        cache_bytes: What the blocks of keys and values may take.
        context_length: The longest sequence, if shorter than the model's own.
    """

    precision: Precision = Precision.DEFAULT
    num_threads: int = 1
    cache_bytes: int = 2**29
    context_length: int | None = None


class OutOfBlocks(ModelNotLoadable):
    """What the blocks may take does not hold one sequence."""


class OpenVinoRunner:
    """A `ModelRunner` on the processor.

    The last block is the runner's own: tokens that only fill up a batch are kept there.
    """

    def __init__(
        self,
        config: DecoderConfig,
        model: Any,
        options: RunnerOptions,
        *,
        min_tokens: int,
        num_weight_bytes: int,
        borrowed: list[Any],
    ) -> None:
        self.config = config
        self._borrowed = borrowed
        self.vocabulary_size = config.vocabulary_size
        self._min_tokens = min_tokens
        self._num_threads = options.num_threads
        self._num_weight_bytes = num_weight_bytes
        compiled = openvino.Core().compile_model(model, "CPU", _properties(options))
        self._request = compiled.create_infer_request()
        self._places = {port.get_any_name(): place for place, port in enumerate(compiled.inputs)}
        blocks = {
            place: (port.get_element_type(), [d.get_length() for d in port.get_partial_shape()[1:]])
            for place, port in enumerate(compiled.inputs)
            if port.get_partial_shape().rank.get_length() == 4
        }
        # Of a block of values: heads, tokens, the size of a head.
        self.block_size: int = blocks[self._places["values.0"]][1][1]
        self._num_block_bytes: int = sum(
            kind.size * math.prod(shape) for kind, shape in blocks.values()
        )
        self.num_blocks: int = options.cache_bytes // self._num_block_bytes - 1
        if self.num_blocks < 1:
            raise OutOfBlocks("The memory for keys and values holds not a single block.")
        self._kept = []
        for place, (kind, shape) in blocks.items():
            kept = openvino.Tensor(kind, openvino.Shape([self.num_blocks + 1, *shape]))
            self._kept.append(kept)
            self._request.set_input_tensor(place, kept)
        self._compiled = compiled

    def run(self, batch: Batch) -> Logits:
        """See `ModelRunner`."""
        num_rows = len(batch.rows)
        feed = self._feed(batch)
        # The tensors only borrow the arrays, which live until the end of this call.
        for name, array in feed.items():
            self._request.set_input_tensor(
                self._places[name], openvino.Tensor(array, shared_memory=True)
            )
        self._request.infer()
        values, best, log_sums = (self._request.get_output_tensor(place).data for place in range(3))
        return Logits(
            values=values.reshape(-1, self.vocabulary_size)[:num_rows],
            best=best.reshape(-1)[:num_rows].astype(np.int64),
            log_sums=log_sums.reshape(-1)[:num_rows],
        )

    def _feed(self, batch: Batch) -> dict[str, NDArray[Any]]:
        lengths = batch.num_past + np.diff(batch.begins)
        assert len(batch.token_ids)
        assert lengths.max() <= self.config.context_length, "the scheduler keeps to the context"
        feed: dict[str, NDArray[Any]] = {
            "token_ids": batch.token_ids,
            "positions": batch.positions,
            "num_past": batch.num_past,
            "begins": batch.begins,
            "block_ids": batch.block_ids,
            "block_begins": batch.block_begins,
            "rows": batch.rows,
        }
        num_padding = self._num_padding(batch)
        if num_padding:
            feed |= self._padding(batch, num_padding)
        missing = max(self._min_tokens, 1) - len(batch.rows)
        if missing > 0:
            feed["rows"] = np.append(batch.rows, np.zeros(missing, np.int64))
        feed["longest"] = np.array(max(int(lengths.max()), num_padding), np.int32)
        return feed

    def _num_padding(self, batch: Batch) -> int:
        """How many tokens the runner adds, so that each of the others goes its usual way.

        Two kernels choose by the batch. Matrix products take another way for few rows. Attention
        does so for fewer sequences than threads, each of one token: threads then share a sequence,
        and the order of its sums differs. One sequence of two tokens keeps it from that.
        """
        num_tokens, num_sequences = len(batch.token_ids), len(batch.num_past)
        missing = max(0, self._min_tokens - num_tokens)
        if num_tokens == num_sequences < self._num_threads:
            return max(2, missing)
        return missing

    def _padding(self, batch: Batch, count: int) -> dict[str, NDArray[Any]]:
        """The batch and one more sequence of `count` tokens, in the runner's own block."""
        return {
            "token_ids": np.append(batch.token_ids, np.zeros(count, np.int64)),
            "positions": np.append(batch.positions, np.arange(count, dtype=np.int64)),
            "num_past": np.append(batch.num_past, np.int32(0)),
            "begins": np.append(batch.begins, batch.begins[-1] + np.int32(count)),
            "block_ids": np.append(batch.block_ids, np.int32(self.num_blocks)),
            "block_begins": np.append(batch.block_begins, batch.block_begins[-1] + np.int32(1)),
        }

    def memory_bytes(self) -> int:
        """See `ModelRunner`."""
        return self._num_weight_bytes + (self.num_blocks + 1) * self._num_block_bytes

    def close(self) -> None:
        """See `ModelRunner`. Nothing may be called afterwards."""
        del self._request, self._compiled, self._kept, self._borrowed


def load_runner(folder: Path, options: RunnerOptions) -> OpenVinoRunner:
    """Build the graph of the model in `folder` and make it ready to run.

    Raises:
        ArchitectureUnknown: Nothing is wrong with the model, but it has no graph here.
        ModelNotLoadable: With a sentence that says why.
    """
    config = read_config(folder, options.context_length)
    build = FAMILIES.get(config.architecture)
    if build is None:
        raise ArchitectureUnknown("This engine has no graph for the model's architecture.")
    checkpoint = Checkpoint(folder)
    graph = DecoderGraph(config, checkpoint)
    model = openvino.Model(_outputs(build(config, graph)), graph.parameters, "decoder")
    exact = _inference_type(options) == "f32"
    return OpenVinoRunner(
        config,
        model,
        options,
        min_tokens=2 if exact else 0,
        num_weight_bytes=checkpoint.num_bytes(),
        borrowed=graph.borrowed,
    )


def _outputs(logits: Node) -> list[Node]:
    """Logits, the best token and the logarithm of the sum of exponentials of each row."""
    best = ops.topk(logits, ops.constant(np.int64(1)), -1, "max", "none", "i32")
    highest = best.output(0)
    shifted = ops.exp(ops.subtract(logits, highest))
    total = ops.log(ops.reduce_sum(shifted, integers(-1), True))
    log_sums = ops.add(total, highest)
    return [ops.result(logits), ops.result(best.output(1)), ops.result(log_sums)]


def _inference_type(options: RunnerOptions) -> str:
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    fast = options.precision is Precision.DEFAULT and "BF16" in capabilities
    return "bf16" if fast else "f32"


def _properties(options: RunnerOptions) -> dict[str, Any]:
    kind = _inference_type(options)
    return {
        "INFERENCE_PRECISION_HINT": kind,
        "KV_CACHE_PRECISION": kind,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": options.num_threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
