"""Where vLLM is, how it is started for a model, and in what environment. Starts nothing itself."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gatehouse.engines.base import ModelNotLoadable

# What requests call the model.
MODEL_NAME = "model"
SOCKET_NAME = "http"
COMPLETIONS = "/v1/completions"
PROGRAM_SETTING = "GATEHOUSE_VLLM"
ARGUMENTS_SETTING = "GATEHOUSE_VLLM_ARGUMENTS"

_DEVICES = Path("/dev")
# More than any surface of the hub gives.
_MOST_LOGPROBS = 20
# vLLM's interpreter is another one than ours.
_OURS = frozenset({"PYTHONPATH", PROGRAM_SETTING, ARGUMENTS_SETTING})


class VllmAbsent(ModelNotLoadable):
    """An administrator wants what is not installed."""

    def __init__(self) -> None:
        super().__init__(
            f"vLLM is not available on this machine: there is no program `vllm`, and "
            f"`{PROGRAM_SETTING}` names none."
        )


@dataclass(frozen=True, slots=True)
class VllmProgram:
    """An installed vLLM.

    Attributes:
        path: Of the program.
        arguments: That an administrator adds to ours. The last one of a name holds.
    """

    path: Path
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        dtype: What it is computed in, as vLLM calls it.
        cache_bytes: For keys and values.
        num_threads: For what is computed on the CPU.
        is_eager: Compile nothing: that needs a compiler, and a CPU gains little by it.
    """

    dtype: str
    cache_bytes: int
    num_threads: int
    is_eager: bool


def find_vllm(environment: Mapping[str, str]) -> VllmProgram | None:
    """The program that `GATEHOUSE_VLLM` names, else `vllm` beside our Python or in `PATH`."""
    arguments = tuple(shlex.split(environment.get(ARGUMENTS_SETTING, "")))
    named = environment.get(PROGRAM_SETTING, "")
    beside = str(Path(sys.executable).with_name("vllm"))
    for candidate in [named] if named else [beside, "vllm"]:
        found = shutil.which(candidate, path=environment.get("PATH"))
        if found is not None:
            return VllmProgram(Path(found).absolute(), arguments)
    return None


def has_cuda(devices: Path = _DEVICES) -> bool:
    """Whether there is a GPU of NVIDIA's with its driver. Loads no library to find out."""
    return any(path.name[6:].isdigit() for path in devices.glob("nvidia[0-9]*"))


def serve_command(
    program: VllmProgram, folder: Path, private: Path, options: ServeOptions
) -> list[str]:
    """The command that serves the model in `folder` on a socket in `private`."""
    command = [str(program.path), "serve", str(folder)]
    command += ["--uds", str(private / SOCKET_NAME), "--served-model-name", MODEL_NAME]
    # Ours say what holds where a request says nothing; nobody else reads them.
    command += ["--generation-config", "vllm"]
    command += ["--load-format", "safetensors", "--dtype", options.dtype]
    # A context that does not fit into the cache is cut, and not refused.
    command += ["--kv-cache-memory-bytes", str(options.cache_bytes), "--max-model-len", "auto"]
    command += ["--scheduling-policy", "priority", "--max-logprobs", str(_MOST_LOGPROBS)]
    # The library that our own grammars are written for.
    command += ["--structured-outputs-config", '{"backend": "guidance"}']
    command += ["--disable-uvicorn-access-log", "--disable-fastapi-docs", "--disable-log-stats"]
    command += ["--enforce-eager"] if options.is_eager else []
    return command + list(program.arguments)


def serve_environment(
    environment: Mapping[str, str], program: VllmProgram, private: Path, options: ServeOptions
) -> dict[str, str]:
    """The environment for that: no network, nothing reported to anybody, no plug-ins."""
    kept = {name: value for name, value in environment.items() if name not in _OURS}
    return kept | {
        "PATH": os.pathsep.join([str(program.path.parent), environment.get("PATH", os.defpath)]),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_PLUGINS": "",
        # Where its processes talk to each other, by pickles: nobody else may.
        "VLLM_RPC_BASE_PATH": str(private),
        # Other models share the cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(options.num_threads),
    }
