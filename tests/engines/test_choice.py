"""Which engine runs a model: by what the machine has, and by what an administrator wants."""

import pytest

from gatehouse.engines.base import (
    EngineOptions,
    ModelNotLoadable,
    Precision,
    RunnerName,
    WeightFormat,
)
from gatehouse.engines.choice import Machine, RunnerAbsent, runners_for
from gatehouse.engines.vllm.program import VllmAbsent

OPENVINO, TRANSFORMERS, VLLM = RunnerName.OPENVINO, RunnerName.TRANSFORMERS, RunnerName.VLLM
WHOLE_GPU = Machine(has_openvino=True, has_cuda=True, torch_has_cuda=True, has_vllm=True)
EXACT = EngineOptions(precision=Precision.EXACT)
INT8 = EngineOptions(weight_format=WeightFormat.INT8)


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        (Machine(), (TRANSFORMERS,)),
        (Machine(has_openvino=True), (OPENVINO, TRANSFORMERS)),
        (Machine(has_openvino=True, has_vllm=True), (OPENVINO, TRANSFORMERS)),
        (
            Machine(has_openvino=True, has_cuda=True, torch_has_cuda=True),
            (TRANSFORMERS, OPENVINO),
        ),
        (Machine(has_openvino=True, has_cuda=True), (OPENVINO, TRANSFORMERS)),
        (
            Machine(has_openvino=True, has_cuda=True, has_vllm=True),
            (VLLM, OPENVINO, TRANSFORMERS),
        ),
        (WHOLE_GPU, (VLLM, TRANSFORMERS, OPENVINO)),
    ],
)
def test_the_fastest_that_is_there_comes_first(
    machine: Machine, chosen: tuple[RunnerName, ...]
) -> None:
    assert runners_for(EngineOptions(), machine) == chosen


def test_what_cannot_do_what_is_wanted_is_passed_over() -> None:
    assert runners_for(EXACT, WHOLE_GPU) == (VLLM, OPENVINO)
    assert runners_for(INT8, WHOLE_GPU) == (OPENVINO,)
    with pytest.raises(ModelNotLoadable):
        runners_for(INT8, Machine(has_cuda=True, torch_has_cuda=True, has_vllm=True))


@pytest.mark.parametrize("runner", [OPENVINO, TRANSFORMERS, VLLM])
def test_an_administrator_s_choice_is_the_only_one(runner: RunnerName) -> None:
    assert runners_for(EngineOptions(runner), WHOLE_GPU) == (runner,)


def test_what_is_not_installed_is_said_so() -> None:
    with pytest.raises(VllmAbsent, match="GATEHOUSE_VLLM"):
        runners_for(EngineOptions(VLLM), Machine(has_openvino=True, has_cuda=True))
    with pytest.raises(RunnerAbsent):
        runners_for(EngineOptions(OPENVINO), Machine(has_vllm=True, has_cuda=True))
