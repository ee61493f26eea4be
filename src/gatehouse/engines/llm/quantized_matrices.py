"""The quantized matrices of a model: from a copy that was kept, else made, and then kept.

Copies lie in a folder of one repository. They are a cache: any may be removed at any time.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatehouse.engines.base import ModelNotLoadable, WeightFormat
from gatehouse.engines.llm.quantization import (
    VERSION,
    Layout,
    QuantizedMatrix,
    layout_of,
    quantize,
)
from gatehouse.engines.llm.quantized_copy import (
    UNFINISHED_PREFIX,
    CopyBroken,
    CopyWriter,
    QuantizedCopy,
)
from gatehouse.engines.llm.weights import Checkpoint, StoredTensor

_SUFFIX = ".safetensors"
# What is older was left unfinished by a process that was killed.
_UNFINISHED_SECONDS = 3600

_log = logging.getLogger(__name__)


class QuantizedMatrices:
    """Gives the matrices of linear layers in fewer bits than they are stored in.

    Args:
        weight_format: Of all matrices but the head.
        copy: Where they are looked for.
        writer: Where those that are made are put; None: they are held in memory.
    """

    def __init__(
        self,
        weight_format: WeightFormat,
        copy: QuantizedCopy | None = None,
        writer: CopyWriter | None = None,
    ) -> None:
        self._weight_format = weight_format
        self._copy = copy
        self._writer = writer
        self._given: dict[str, QuantizedMatrix] = {}
        self.num_made = 0

    @property
    def is_written(self) -> bool:
        """Whether the writer has all that was made."""
        return self._writer is not None

    def matrix(self, name: str, tensor: StoredTensor) -> QuantizedMatrix:
        """A tensor of shape (out, in), quantized.

        Raises:
            WeightsBroken: A weight is no finite number.
        """
        return self._give(name, tensor, layout_of(tensor.shape, self._weight_format))

    def head(self, name: str, tensor: StoredTensor) -> QuantizedMatrix:
        """As `matrix`, of the one that gives logits."""
        # In 8 bits hardly anything changes; in 4, as much as from all other matrices together.
        return self._give(name, tensor, layout_of(tensor.shape, WeightFormat.INT8))

    def let_go(self) -> None:
        """Leave what is kept in a file to the system, which reads it again when asked for."""
        for mapped in (self._copy, self._writer):
            if mapped is not None:
                mapped.let_go()

    def _give(self, name: str, tensor: StoredTensor, layout: Layout) -> QuantizedMatrix:
        if name not in self._given:
            kept = self._copy.get(name, layout) if self._copy is not None else None
            self._given[name] = kept or self._make(name, tensor, layout)
        return self._given[name]

    def _make(self, name: str, tensor: StoredTensor, layout: Layout) -> QuantizedMatrix:
        self.num_made += 1
        if self._writer is not None:
            try:
                return self._writer.add(name, tensor, layout)
            except OSError as error:
                _log.warning("Quantized weights cannot be kept: %s.", error.strerror)
                self._writer.close()
                self._writer = None
        return quantize(name, tensor, layout)


@contextmanager
def quantized_matrices(
    folder: Path, checkpoint: Checkpoint, weight_format: WeightFormat, copies: Path | None
) -> Iterator[QuantizedMatrices | None]:
    """The matrices of a model; None if its weights stay as they are stored.

    What was made is kept at the end, unless something was raised.

    Args:
        folder: Of the model.
        checkpoint: Its weights.
        weight_format: See `QuantizedMatrices`.
        copies: Where to keep copies; None: nowhere.

    Raises:
        ModelNotLoadable: The system cannot hold what was written.
    """
    if weight_format is WeightFormat.STORED:
        yield None
        return
    if copies is None:
        yield QuantizedMatrices(weight_format)
        return
    key = _key(folder, checkpoint, weight_format)
    path = copies / f"{key}{_SUFFIX}"
    copy = _open(path, key)
    if copy is not None:
        matrices = QuantizedMatrices(weight_format, copy)
        yield matrices
        if matrices.num_made:
            # Another graph than the copy was made for: the next load makes it anew.
            path.unlink(missing_ok=True)
        return
    try:
        writer = CopyWriter(copies, checkpoint)
    except OSError as error:
        _log.warning("Quantized weights cannot be kept: %s.", error.strerror)
        yield QuantizedMatrices(weight_format)
        return
    with writer:
        matrices = QuantizedMatrices(weight_format, writer=writer)
        yield matrices
        if matrices.is_written and matrices.num_made:
            _publish(writer, path, key)
            _leave_newest(copies, path, checkpoint.num_bytes())


def _key(folder: Path, checkpoint: Checkpoint, weight_format: WeightFormat) -> str:
    """What a copy is made from and how, in 40 hexadecimal digits.

    The bytes of the weights are not read for that. A repository's files are links to where they
    lie by their own digest and are never changed; of any other, the time of the last change tells.
    """
    files = [
        (path.name, path.resolve().name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.glob(f"*{_SUFFIX}"))
    ]
    tensors = sorted(
        (name, tensor.dtype, tensor.shape, tensor.place) for name, tensor in checkpoint.items()
    )
    config = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    whole = json.dumps([VERSION, weight_format.value, config, files, tensors])
    return hashlib.sha256(whole.encode()).hexdigest()[:40]


def _open(path: Path, key: str) -> QuantizedCopy | None:
    """A copy that is sound; None if it has to be made."""
    try:
        copy = QuantizedCopy(path, key)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("Kept weights cannot be read: %s.", error.strerror)
        return None
    except CopyBroken as error:
        _log.warning("%s It is made anew.", error.message)
        return None
    with suppress(OSError):
        path.touch()  # for those who look for the oldest
    return copy


def _publish(writer: CopyWriter, path: Path, key: str) -> None:
    try:
        writer.finish(key)
    except OSError as error:
        # What is mapped from there may be lost by now.
        raise ModelNotLoadable("The model's quantized weights could not be written.") from error
    try:
        writer.publish(path)
    except OSError as error:
        _log.warning("Quantized weights cannot be kept: %s.", error.strerror)


def _leave_newest(copies: Path, newest: Path, max_bytes: int) -> None:
    """Remove the oldest copies, so that all others take no more than the weights themselves.

    Also what was left unfinished. Whoever has one of them mapped keeps it.
    """
    with suppress(OSError):
        for path in copies.glob(f"{UNFINISHED_PREFIX}*"):
            if path.stat().st_mtime < time.time() - _UNFINISHED_SECONDS:
                path.unlink(missing_ok=True)
        num_bytes = newest.stat().st_size
        others = [path for path in copies.glob(f"*{_SUFFIX}") if path != newest]
        for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
            num_bytes += path.stat().st_size
            if num_bytes > max_bytes:
                path.unlink(missing_ok=True)
