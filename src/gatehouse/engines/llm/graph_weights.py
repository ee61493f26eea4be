"""The weights of a graph: constants over the bytes of a model's files, or over quantized copies."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.nodes import Node, integers
from gatehouse.engines.llm.quantization import QuantizedMatrix
from gatehouse.engines.llm.quantized_matrices import QuantizedMatrices
from gatehouse.engines.llm.quiet_openvino import openvino, ops
from gatehouse.engines.llm.weights import Checkpoint, StoredTensor, WeightsBroken

_TYPES = {"F32": openvino.Type.f32, "F16": openvino.Type.f16, "BF16": openvino.Type.bf16}


class GraphWeights:
    """Gives the tensors of a model's files as nodes, each held to the shape that is wanted.

    Attributes:
        borrowed: What must live as long as the graph runs: it only points into these.
        num_bytes: Of all weights in the graph.
    """

    def __init__(self, checkpoint: Checkpoint, matrices: QuantizedMatrices | None) -> None:
        self.borrowed: list[Any] = []
        self.num_bytes = 0
        self._checkpoint = checkpoint
        self._matrices = matrices
        self._nodes: dict[str, Node] = {}

    @property
    def are_quantized(self) -> bool:
        """Whether matrices are kept in fewer bits than they are stored in."""
        return self._matrices is not None

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

    def plain(self, name: str, *shape: int) -> Node:
        """A tensor as float32 values, never quantized; its bytes stay in the file's map.

        Raises:
            WeightsBroken: It is missing, or of another shape.
        """
        if name not in self._nodes:
            self._nodes[name] = self._constant(self.stored(name, *shape), name)
        return self._nodes[name]

    def matrix(self, name: str, num_out: int, num_in: int) -> Node:
        """The weights of a linear layer, of shape (out, in); quantized if weights are to be.

        Raises:
            WeightsBroken: They are missing, of another shape, or cannot be quantized.
        """
        if self._matrices is None:
            return self.plain(name, num_out, num_in)
        return self.matrix_of(self.stored(name, num_out, num_in), name)

    def matrix_of(self, tensor: StoredTensor, name: str) -> Node:
        """As `matrix`, of a tensor of shape (out, in)."""
        if self._matrices is None:
            return self._constant(tensor, name)
        return self._quantized(self._matrices.matrix(name, tensor), name)

    def head(self, name: str, num_out: int, num_in: int) -> Node:
        """The matrix that gives logits; quantized if weights are to be."""
        if self._matrices is None:
            return self.plain(name, num_out, num_in)
        tensor = self.stored(name, num_out, num_in)
        return self._quantized(self._matrices.head(name, tensor), name)

    def check_finite(self, name: str) -> None:
        """Look through a tensor of which a batch meets only some rows.

        Raises:
            WeightsBroken: It holds what is no finite number.
        """
        if not self._checkpoint[name].is_finite():
            raise WeightsBroken(f"The tensor `{name}` holds numbers that are not finite.")

    def _constant(self, tensor: StoredTensor, name: str) -> Node:
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
        # OpenVINO takes no read-only arrays, though it never writes. Bare memory has no such mark.
        memory = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
        writable = np.frombuffer(memoryview(memory), array.dtype).reshape(array.shape)
        shared = openvino.Tensor(writable, openvino.Shape(list(shape)), kind)
        self.borrowed += [array, shared]
        self.num_bytes += array.nbytes
        node = openvino.op.Constant(shared, shared_memory=True)
        if name:
            node.set_friendly_name(name)
        return node

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
