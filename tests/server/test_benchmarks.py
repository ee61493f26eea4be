"""The benchmarks run; what they find is nobody's to assert."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_the_hub_adds_can_be_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.inference", "--only", "latency", "--requests", "4"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for line in ("the engine, on its socket", "the hub, new prompts", "added median latency"):
        assert line in run.stdout
