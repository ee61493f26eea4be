"""Which engine runs a model of text: `transformers`, unless an administrator wants another."""

from importlib.util import find_spec
from pathlib import Path

from gatehouse.engines.base import Engine, EngineOptions, ModelNotLoadable, RunnerName


class RunnerAbsent(ModelNotLoadable):
    """An administrator wants what is not installed."""

    def __init__(self) -> None:
        super().__init__("OpenVINO is not available on this machine.")


def load_text_generation(folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    """An engine for the causal model in `folder`.

    Raises:
        ModelNotLoadable: No engine can run it, or not the one that was wanted.
    """
    if options.runner is RunnerName.OPENVINO:
        if find_spec("openvino") is None:
            raise RunnerAbsent
        return _load_batched(folder, options, num_threads)
    return _load_transformers(folder)


def _load_batched(folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    from gatehouse.engines.llm.loading import (  # noqa: PLC0415 - needs what may be absent
        load_batched_text_generation,
    )

    return load_batched_text_generation(folder, options, num_threads)


def _load_transformers(folder: Path) -> Engine:
    from gatehouse.engines.pipelines.text_generation import (  # noqa: PLC0415 - seconds, seldom needed
        load_text_generation as load,
    )

    return load(folder)
