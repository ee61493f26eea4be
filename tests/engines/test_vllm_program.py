"""How vLLM is found and started, and what is read from its last words."""

from pathlib import Path

import pytest

from gatehouse.engines.process import compute_environment
from gatehouse.engines.vllm.process import failure_reason
from gatehouse.engines.vllm.program import (
    ServeOptions,
    VllmProgram,
    find_vllm,
    has_cuda,
    serve_command,
    serve_environment,
)

OPTIONS = ServeOptions("bfloat16", 2**30, 2, is_eager=True)


def make_program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_setting_goes_before_the_path(tmp_path: Path) -> None:
    named = make_program(tmp_path / "mine", "serves")
    found = make_program(tmp_path / "bin", "vllm")
    environment = {"PATH": str(found.parent)}
    assert find_vllm(environment) == VllmProgram(found)
    environment |= {"GATEHOUSE_VLLM": str(named), "GATEHOUSE_VLLM_ARGUMENTS": "--seed 'a b'"}
    assert find_vllm(environment) == VllmProgram(named, ("--seed", "a b"))
    # Nobody is given another program than the one they named.
    assert find_vllm(environment | {"GATEHOUSE_VLLM": str(tmp_path / "none")}) is None
    assert find_vllm({"PATH": str(tmp_path)}) is None


def test_arguments_of_an_administrator_come_last(tmp_path: Path) -> None:
    program = VllmProgram(Path("/opt/vllm"), ("--dtype", "float16"))
    command = serve_command(program, tmp_path / "model", tmp_path, OPTIONS)
    assert command[:3] == ["/opt/vllm", "serve", str(tmp_path / "model")]
    assert command[-2:] == ["--dtype", "float16"]
    assert "--enforce-eager" in command


def test_the_environment_holds_no_secret_and_reports_to_nobody(tmp_path: Path) -> None:
    given = compute_environment({"PATH": "/bin", "SECRET": "x", "CUDA_VISIBLE_DEVICES": "1"})
    environment = serve_environment(given, VllmProgram(Path("/opt/vllm")), tmp_path, OPTIONS)
    assert "SECRET" not in environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["PATH"] == "/opt:/bin"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["VLLM_RPC_BASE_PATH"] == str(tmp_path)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [([], False), (["nvidiactl", "nvidia-uvm", "null"], False), (["nvidiactl", "nvidia0"], True)],
)
def test_a_gpu_is_known_by_its_device(tmp_path: Path, devices: list[str], expected: bool) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert has_cuda(tmp_path) is expected


def test_the_reason_is_the_first_cause_and_tells_no_path() -> None:
    lines = [
        "(EngineCore pid=1) INFO 11-22 00:00:00 [core.py:1] Loading /srv/models/x",
        "(EngineCore pid=1) ERROR 11-22 00:00:00 [core.py:2] ValueError: no /srv/models/x/a here",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    assert failure_reason(lines) == "no a file here"
    assert failure_reason(["Killed"]) == "it ended without a reason."
