"""Which engine runs a model of text: the fastest that this machine has and that can run it."""

import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gatehouse.engines.base import (
    Engine,
    EngineOptions,
    ModelNotLoadable,
    RunnerName,
    RunnerUnsuited,
    Speculation,
    WeightFormat,
)
from gatehouse.engines.vllm.program import VllmAbsent, find_vllm, has_cuda

_log = logging.getLogger(__name__)


class RunnerAbsent(ModelNotLoadable):
    """An administrator wants what is not installed."""

    def __init__(self) -> None:
        super().__init__("OpenVINO is not available on this machine.")


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to run models with.

    Attributes:
        has_cuda: A GPU of NVIDIA's, and its driver.
        torch_has_cuda: The same, and a torch that was built for it.
        has_vllm: A program that can be started.
    """

    has_openvino: bool = False
    has_cuda: bool = False
    torch_has_cuda: bool = False
    has_vllm: bool = False


def runners_for(options: EngineOptions, machine: Machine) -> tuple[RunnerName, ...]:
    """What to run a model by: the first; or a later one, where those before do not suit it.

    Raises:
        ModelNotLoadable: Nothing that is there can do what is wanted.
    """
    if options.runner is RunnerName.VLLM and not machine.has_vllm:
        raise VllmAbsent
    if options.runner is RunnerName.OPENVINO and not machine.has_openvino:
        raise RunnerAbsent
    if options.runner is not RunnerName.AUTO:
        return (options.runner,)
    order = [RunnerName.OPENVINO, RunnerName.TRANSFORMERS]
    if machine.torch_has_cuda:
        order.reverse()
    if machine.has_cuda:
        order.insert(0, RunnerName.VLLM)
    is_there = {
        RunnerName.OPENVINO: machine.has_openvino,
        RunnerName.TRANSFORMERS: True,
        RunnerName.VLLM: machine.has_vllm,
    }
    # What was asked for is not left out in silence.
    suited = tuple(name for name in order if is_there[name] and _can(name, options))
    if not suited:
        raise RunnerAbsent
    return suited


def load_text_generation(folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    """An engine for the causal model in `folder`.

    Raises:
        ModelNotLoadable: No engine can run it, or not the one that was wanted.
    """
    *first, last = runners_for(options, _this_machine())
    for name in first:
        try:
            return _load(name, folder, options, num_threads)
        except RunnerUnsuited as unsuited:
            _log.info("%s does not run the model: %s", name, unsuited.message)
    return _load(last, folder, options, num_threads)


def _can(runner: RunnerName, options: EngineOptions) -> bool:
    """Whether it knows how to do what is wanted, by any model."""
    if runner is RunnerName.TRANSFORMERS:
        return options == EngineOptions(options.runner)
    is_usual = (options.weight_format, options.speculation, options.takes_adapters) == (
        WeightFormat.STORED,
        Speculation.OFF,
        False,
    )
    return runner is RunnerName.OPENVINO or is_usual


def _this_machine() -> Machine:
    """Looks for devices first: asking torch takes a second where there are none."""
    cuda = has_cuda()
    return Machine(
        has_openvino=find_spec("openvino") is not None,
        has_cuda=cuda,
        torch_has_cuda=cuda and _torch_has_cuda(),
        has_vllm=find_vllm(os.environ) is not None,
    )


def _torch_has_cuda() -> bool:
    import torch  # noqa: PLC0415 - seconds, seldom needed

    return bool(torch.cuda.is_available())


def _load(runner: RunnerName, folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    if runner is RunnerName.OPENVINO:
        return _load_batched(folder, options, num_threads)
    if runner is RunnerName.VLLM:
        return _load_vllm(folder, options, num_threads)
    return _load_transformers(folder)


def _load_batched(folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    from gatehouse.engines.llm.loading import (  # noqa: PLC0415 - needs what may be absent
        load_batched_text_generation,
    )

    return load_batched_text_generation(folder, options, num_threads)


def _load_vllm(folder: Path, options: EngineOptions, num_threads: int) -> Engine:
    from gatehouse.engines.vllm.loading import (  # noqa: PLC0415 - seconds, seldom needed
        load_vllm_text_generation,
    )

    program = find_vllm(os.environ)
    if program is None:
        raise VllmAbsent
    return load_vllm_text_generation(folder, options, num_threads, program, os.environ)


def _load_transformers(folder: Path) -> Engine:
    from gatehouse.engines.pipelines.text_generation import (  # noqa: PLC0415 - seconds, seldom needed
        load_text_generation as load,
    )

    return load(folder)
