"""The adapters in memory: rows of two matrices beside each linear layer, and who uses which."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import RefusalKind, RequestRefused
from gatehouse.engines.llm.adapter_config import AdapterInvalid
from gatehouse.engines.llm.adapter_files import Adapter, LinearShape, LowRankPair, read_adapter
from gatehouse.engines.llm.adapter_rows import AdapterRows
from gatehouse.engines.llm.quiet_openvino import openvino
from gatehouse.engines.llm.runner import AdapterPlace, Batch

_EXPONENTS = np.uint16(0x7F80)


class AdaptersBusy(RequestRefused):
    """All room for adapters is held by others under way."""

    def __init__(self) -> None:
        super().__init__(RefusalKind.OVERLOADED, "Too many adapters of the model are in use")


class ResidentAdapters:
    """The matrices of all adapters that a graph has at hand, filled by any thread.

    Rows that nobody holds are written while batches run: no token of theirs sees those rows.
    """

    def __init__(
        self, layers: Mapping[str, LinearShape], num_rows: int, *, is_bfloat16: bool
    ) -> None:
        """Make room, which takes memory as it is filled.

        Args:
            layers: What can be adapted.
            num_rows: Ranks of all adapters together.
            is_bfloat16: Whether the graph computes in it.
        """
        self.layers = dict(layers)
        self._rows = AdapterRows(num_rows)
        self._is_bfloat16 = is_bfloat16
        kind = np.uint16 if is_bfloat16 else np.float32
        # Zeros that were never written take no memory.
        self._stores: dict[str, NDArray[Any]] = {}
        for name, shape in self.layers.items():
            self._stores[f"down.{name}"] = np.zeros((self._rows.num_rows, shape.num_in), kind)
            self._stores[f"up.{name}"] = np.zeros((self._rows.num_rows, shape.num_out), kind)
        self._accounts = threading.Lock()
        self._reading = threading.Lock()

    @property
    def num_rows(self) -> int:
        """Rows that a batch has to be given, however few are used."""
        with self._accounts:
            return max(self._rows.STEP, self._rows.num_used)

    def hold(self, key: str, folder: Path) -> AdapterPlace:
        """The place of an adapter, which stays there until `release`; read if it is not there.

        Raises:
            AdapterInvalid: It cannot be run with this model.
            AdaptersBusy: There is no room for it now.
        """
        with self._accounts:
            place = self._rows.hold(key)
        if place is not None:
            return AdapterPlace(*place)
        with self._reading:
            with self._accounts:
                place = self._rows.hold(key)
            return AdapterPlace(*(place or self._load(key, folder)))

    def release(self, key: str) -> None:
        with self._accounts:
            self._rows.release(key)

    def tensors(self, num_rows: int) -> dict[str, Any]:
        """The first rows of every matrix, by the name of the graph's input."""
        kind = openvino.Type.bf16 if self._is_bfloat16 else openvino.Type.f32
        return {
            name: openvino.Tensor(store, openvino.Shape([num_rows, store.shape[1]]), kind)
            for name, store in self._stores.items()
        }

    def memory_bytes(self) -> int:
        return sum(store.nbytes for store in self._stores.values())

    def _load(self, key: str, folder: Path) -> tuple[int, int]:
        adapter = read_adapter(folder, self.layers)
        if adapter.rank > self._rows.num_rows:
            raise AdapterInvalid(f"The adapter's rank is over {self._rows.num_rows}.")
        rounded = {name: self._rounded(name, pair) for name, pair in adapter.pairs.items()}
        with self._accounts:
            place = self._rows.allocate(key, adapter.rank)
        if place is None:
            raise AdaptersBusy
        self._write(adapter, rounded, place[0], place[1])
        return place

    def _write(
        self,
        adapter: Adapter,
        rounded: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
        begin: int,
        end: int,
    ) -> None:
        for name in self.layers:
            down, up = self._stores[f"down.{name}"], self._stores[f"up.{name}"]
            rank = adapter.pairs[name].rank if name in adapter.pairs else 0
            if rank:
                down[begin : begin + rank], up[begin : begin + rank] = rounded[name]
            down[begin + rank : end] = up[begin + rank : end] = 0

    def _rounded(self, name: str, pair: LowRankPair) -> tuple[NDArray[Any], NDArray[Any]]:
        """The two matrices in the numbers of the computation.

        Raises:
            AdapterInvalid: They do not fit into those.
        """
        down, up = pair.down, pair.up
        if not self._is_bfloat16:
            if not (np.isfinite(down).all() and np.isfinite(up).all()):
                raise _not_finite(name)
            return down, up
        halves = _bfloat16(down), _bfloat16(up)
        if any(((half & _EXPONENTS) == _EXPONENTS).any() for half in halves):
            raise _not_finite(name)
        return halves


def rows_seen(batch: Batch, num_tokens: int, num_rows: int) -> NDArray[np.bool_]:
    """Which of the first rows every token sees; of shape (num_tokens, 1, num_rows).

    Args:
        batch: Whose tokens come first.
        num_tokens: Those of the batch, and maybe more that see nothing.
        num_rows: How many rows the graph is given.
    """
    seen = np.zeros((num_tokens, 1, num_rows), np.bool_)
    if batch.adapters is not None:
        rows = np.arange(num_rows, dtype=np.int32)
        own = (rows >= batch.adapters[:, :1]) & (rows < batch.adapters[:, 1:])
        seen[: len(batch.token_ids), 0] = np.repeat(own, np.diff(batch.begins), axis=0)
    return seen


def _bfloat16(floats: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 of each number, ties to the even one."""
    bits = np.ascontiguousarray(floats).view(np.uint32)
    is_number = np.isfinite(floats)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(is_number, rounded, np.uint32(_EXPONENTS)).astype(np.uint16)


def _not_finite(name: str) -> AdapterInvalid:
    return AdapterInvalid(f"The adapter's matrices for `{name}` hold numbers that are not finite.")
