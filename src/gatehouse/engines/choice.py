"""Which engine runs a model of text: ours where it has a graph, else `transformers`."""

import logging
from importlib.util import find_spec
from pathlib import Path

from gatehouse.engines.base import (
    Engine,
    EngineOptions,
    ModelNotLoadable,
    RunnerName,
    RunnerUnsuited,
)

_log = logging.getLogger(__name__)


class RunnerAbsent(ModelNotLoadable):
    """An administrator wants what is not installed."""

    def __init__(self) -> None:
        super().__init__("OpenVINO is not available on this machine.")


def load_text_generation(folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    """An engine for the causal model in `folder`.

    Raises:
        ModelNotLoadable: No engine can run it, or not the one that was wanted.
    """
    if options.runner is RunnerName.TRANSFORMERS:
        return _load_transformers(folder)
    # What only our engine can do is not left out in silence.
    is_needed = options != EngineOptions()
    if find_spec("openvino") is None:
        if is_needed:
            raise RunnerAbsent
        return _load_transformers(folder)
    try:
        return _load_batched(folder, options, num_threads)
    except RunnerUnsuited as unsuited:
        if is_needed:
            raise
        _log.info("transformers runs the model: %s", unsuited.message)
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
