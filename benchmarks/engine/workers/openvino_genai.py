"""OpenVINO GenAI's own continuous batching over an exported model, with reuse of prefixes."""

import itertools
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.engine.worker import Token, serve

# By name: this environment is not the one that types are checked in.
_genai: Any = import_module("openvino_genai")
_numpy: Any = import_module("numpy")
_openvino: Any = import_module("openvino")

_CACHE_GIB = 1
_TOKENS_PER_STEP = 512
_MAX_RUNNING = 64


class PipelineEngine:
    """An `Engine` over a `ContinuousBatchingPipeline`, which takes ids and gives ids."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._ids = itertools.count()
        self._handles: dict[int, Any] = {}

    def add(self, number: int, prompt: Sequence[int], num_tokens: int) -> None:
        config = _genai.GenerationConfig()
        config.max_new_tokens = num_tokens
        # There has to be one, also for a model that has none.
        config.set_eos_token_id(0)
        config.ignore_eos = True
        config.do_sample = False
        token_ids = _openvino.Tensor(_numpy.array([prompt], dtype=_numpy.int64))
        self._handles[number] = self._pipeline.add_request(next(self._ids), token_ids, config)

    def step(self) -> Iterable[Token]:
        self._pipeline.step()
        now = time.perf_counter()
        tokens = []
        for number, handle in list(self._handles.items()):
            while handle.can_read():
                for output in handle.read().values():
                    tokens += [Token(number, token_id, now) for token_id in output.generated_ids]
            status = handle.get_status()
            if status == _genai.GenerationStatus.FINISHED:
                del self._handles[number]
            elif status != _genai.GenerationStatus.RUNNING:
                raise RuntimeError(f"A request ended otherwise: {status}")
        return tokens


def load(folder: Path, num_threads: int) -> PipelineEngine:
    scheduling = _genai.SchedulerConfig()
    scheduling.cache_size = _CACHE_GIB
    scheduling.max_num_seqs = _MAX_RUNNING
    scheduling.max_num_batched_tokens = _TOKENS_PER_STEP
    scheduling.dynamic_split_fuse = True
    scheduling.enable_prefix_caching = True
    properties = {"INFERENCE_NUM_THREADS": num_threads}
    return PipelineEngine(
        _genai.ContinuousBatchingPipeline(str(folder), scheduling, "CPU", properties)
    )


if __name__ == "__main__":
    serve(load, ["openvino-genai", "openvino"])
