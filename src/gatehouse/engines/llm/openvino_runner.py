"""Runs a decoder's graph on the processor with OpenVINO."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import ModelNotLoadable, WeightFormat
from gatehouse.engines.llm.config import DecoderConfig, read_config
from gatehouse.engines.llm.families import family_of
from gatehouse.engines.llm.layers import DecoderGraph
from gatehouse.engines.llm.mapped_files import letting_go
from gatehouse.engines.llm.quantized_matrices import quantized_matrices
from gatehouse.engines.llm.quiet_openvino import openvino, ops
from gatehouse.engines.llm.resident_adapters import ResidentAdapters, rows_seen
from gatehouse.engines.llm.runner import Batch, Logits
from gatehouse.engines.llm.weights import Checkpoint, WeightsBroken


class ComputeType(StrEnum):
    """The numbers of a computation, by OpenVINO's names."""

    BFLOAT16 = "bf16"
    FLOAT32 = "f32"


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How to run a model.

    Attributes:
        compute_type: Of the computation, the keys and the values; a processor that has no
            bfloat16 takes float32.
        num_threads: Of the computation.
        cache_bytes: What the blocks of keys and values may take.
        context_length: The longest sequence, if shorter than the model's own.
        weight_format: What the weights of linear layers are kept in.
        adapter_rank: Of all adapters at hand together; 0 for a graph that takes none.
        copies_folder: Where what is made of the weights may be kept for the next time.
    """

    compute_type: ComputeType = ComputeType.BFLOAT16
    num_threads: int = 1
    cache_bytes: int = 2**29
    context_length: int | None = None
    weight_format: WeightFormat = WeightFormat.STORED
    adapter_rank: int = 0
    copies_folder: Path | None = None


class OutOfBlocks(ModelNotLoadable):
    """What the blocks may take does not hold one of them."""


class OpenVinoRunner:
    """A `ModelRunner` on the processor.

    The last block is the runner's own: tokens that only fill up a batch are kept there.

    Attributes:
        config: What the model is.
    """

    def __init__(
        self,
        config: DecoderConfig,
        compiled: Any,
        options: RunnerOptions,
        *,
        min_tokens: int,
        borrowed: list[Any],
        num_weight_bytes: int,
        adapters: ResidentAdapters | None = None,
    ) -> None:
        """Take the memory for the blocks.

        Args:
            config: What the model is.
            compiled: Its graph.
            options: How to run it.
            min_tokens: With fewer in a batch, matrix products would take another way.
            borrowed: What must live as long as the graph.
            num_weight_bytes: What the weights take.
            adapters: Those at hand, for a graph that takes any.

        Raises:
            OutOfBlocks: There is no room for a block, or no memory for all.
        """
        self.config = config
        self.vocabulary_size = config.vocabulary_size
        self.adapters = adapters
        self._num_adapter_rows = 0
        self._min_tokens = min_tokens
        self._num_threads = options.num_threads
        self._num_weight_bytes = num_weight_bytes
        self._borrowed = borrowed
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
        for place, (kind, shape) in blocks.items():
            kept = _reserved(kind, [self.num_blocks + 1, *shape])
            self._request.set_input_tensor(place, kept)

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
        values = self._request.get_output_tensor(0).data
        return Logits.of(values.reshape(-1, self.vocabulary_size)[:num_rows])

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
        missing = self._min_tokens - len(batch.rows)
        if missing > 0:
            feed["rows"] = np.append(batch.rows, np.zeros(missing, np.int64))
        if self.adapters is not None:
            num_tokens = len(batch.token_ids) + num_padding
            feed["adapter_rows"] = self._adapter_rows(self.adapters, batch, num_tokens)
        feed["longest"] = np.array(max(int(lengths.max()), num_padding), np.int32)
        return feed

    def _adapter_rows(
        self, adapters: ResidentAdapters, batch: Batch, num_tokens: int
    ) -> NDArray[np.bool_]:
        """Which rows of the adapters' matrices every token sees, once the graph has those."""
        num_rows = adapters.num_rows
        if num_rows != self._num_adapter_rows:
            for name, tensor in adapters.tensors(num_rows).items():
                self._request.set_input_tensor(self._places[name], tensor)
            self._num_adapter_rows = num_rows
        return rows_seen(batch, num_tokens, num_rows)

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

    def warm_up(self) -> None:
        """Run two tokens, which makes the weights' final form, and meets all of them.

        Raises:
            WeightsBroken: What came of it is no number.
        """
        batch = Batch(
            token_ids=np.zeros(2, np.int64),
            positions=np.arange(2, dtype=np.int64),
            num_past=np.zeros(1, np.int32),
            begins=np.array([0, 2], np.int32),
            block_ids=np.array([self.num_blocks], np.int32),
            block_begins=np.array([0, 1], np.int32),
            rows=np.arange(2, dtype=np.int64),
        )
        if not np.isfinite(self.run(batch).values).all():
            raise WeightsBroken("The weights hold numbers that are not finite.")

    def memory_bytes(self) -> int:
        """See `ModelRunner`."""
        adapter_bytes = self.adapters.memory_bytes() if self.adapters else 0
        block_bytes = (self.num_blocks + 1) * self._num_block_bytes
        return self._num_weight_bytes + block_bytes + adapter_bytes

    def close(self) -> None:
        """See `ModelRunner`. Nothing may be called afterwards."""
        del self._request, self._borrowed


def _reserved(kind: Any, shape: list[int]) -> Any:
    """A tensor of blocks, whose memory is taken as they are written."""
    try:
        return openvino.Tensor(kind, openvino.Shape(shape))
    # What OpenVINO makes of memory that it does not get.
    except RuntimeError as error:
        raise OutOfBlocks(
            "There is not enough memory for the keys and values of a whole context."
        ) from error


def load_runner(folder: Path, options: RunnerOptions) -> OpenVinoRunner:
    """Build the graph of the model in `folder` and make it ready to run.

    Raises:
        ArchitectureUnknown: Nothing is wrong with the model, but it has no graph here.
        ModelNotLoadable: With a sentence that says why.
    """
    config = read_config(folder, options.context_length)
    build = family_of(config.architecture)
    checkpoint = Checkpoint(folder)
    core = openvino.Core()
    compute_type = _available(core, options.compute_type)
    adapter_type = getattr(openvino.Type, compute_type.value) if options.adapter_rank else None
    with quantized_matrices(
        folder, checkpoint, options.weight_format, options.copies_folder
    ) as matrices:
        graph = DecoderGraph(config, checkpoint, matrices, adapter_type)
        logits = build(config, graph)
    graph.check_tables()
    model = openvino.Model([ops.result(logits)], graph.parameters, "decoder")
    # The graph gets the matrices in a form of its own.
    with letting_go(checkpoint, *([matrices] if matrices else [])):
        runner = OpenVinoRunner(
            config,
            core.compile_model(model, "CPU", _properties(compute_type, options.num_threads)),
            options,
            # Fewer rows take another way: in float32 one, with int8 and int4 weights up to four.
            min_tokens=5 if matrices else 2 if compute_type is ComputeType.FLOAT32 else 1,
            borrowed=graph.borrowed,
            num_weight_bytes=graph.num_weight_bytes,
            adapters=_adapters(graph, compute_type, options.adapter_rank),
        )
        runner.warm_up()
    return runner


def _adapters(graph: DecoderGraph, compute_type: ComputeType, rank: int) -> ResidentAdapters | None:
    if graph.adapters is None:
        return None
    is_bfloat16 = compute_type is ComputeType.BFLOAT16
    return ResidentAdapters(graph.adapters.layers, rank, is_bfloat16=is_bfloat16)


def _available(core: Any, compute_type: ComputeType) -> ComputeType:
    """The wanted one, if the processor has it."""
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return compute_type if has_bfloat16 else ComputeType.FLOAT32


def _properties(compute_type: ComputeType, num_threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": compute_type.value,
        "KV_CACHE_PRECISION": compute_type.value,
        # Activations stay as they are; by default they would be made 8 bits wide.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        # The worker's threads go where the system puts them: other models run beside it.
        "ENABLE_CPU_PINNING": False,
    }
