"""What weights in fewer bits cost and save: loading, memory, and steps of decoding.

    python -m benchmarks.engine.weight_formats MODEL [--threads 1]

Each line is a process of its own. Seconds are of the processor, so that other processes matter
less. "Made" is a load that quantizes and keeps the copy, "mapped" one that finds it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.figures import show_table
from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm.openvino_runner import OpenVinoRunner, RunnerOptions, load_runner
from gatehouse.engines.llm.runner import Batch

_NUM_WARM = 3
_STEP_SECONDS = 3.0
_MAX_STEPS = 100
_CACHE_BYTES = 2**28
_MANY = 32


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.weight_formats")
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", type=WeightFormat, help=argparse.SUPPRESS)
    parser.add_argument("--copies", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        _measure(options.model, options.measure, options.copies, options.threads)
        return
    rows = []
    with tempfile.TemporaryDirectory() as copies:
        for weight_format, how in (
            (WeightFormat.STORED, ""),
            (WeightFormat.INT8, "made"),
            (WeightFormat.INT8, "mapped"),
            (WeightFormat.INT4, "made"),
            (WeightFormat.INT4, "mapped"),
        ):
            cells = _measured(options.model, weight_format, copies, options.threads)
            rows.append([f"{weight_format} {how}", *cells])
    columns = ["weights", "load, s", "private, MB", "one stream, ms", f"{_MANY} streams, ms"]
    title = f"{options.model.name}, {options.threads} thread(s)"
    show_table(title, [*columns, f"tokens/s of {_MANY}"], rows)


def _measured(model: Path, weight_format: WeightFormat, copies: str, threads: int) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.engine.weight_formats", str(model)]
    command += ["--measure", weight_format.value, "--copies", copies, "--threads", str(threads)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ourselves
    load, private, one, many = json.loads(output)
    return [
        f"{load:.2f}",
        f"{private / 1e6:.0f}",
        f"{1000 * one:.1f}",
        f"{1000 * many:.1f}",
        f"{_MANY / many:.0f}",
    ]


def _measure(model: Path, weight_format: WeightFormat, copies: Path, threads: int) -> None:
    """Write seconds to load, bytes of private memory more than before, and seconds of steps."""
    private, started = _private_bytes(), _processor_seconds()
    runner = load_runner(
        model,
        RunnerOptions(
            num_threads=threads,
            cache_bytes=_CACHE_BYTES,
            weight_format=weight_format,
            copies_folder=copies,
        ),
    )
    loaded = _processor_seconds() - started
    steps = [_step_seconds(runner, 1), _step_seconds(runner, _MANY)]
    sys.stdout.write(json.dumps([loaded, _private_bytes() - private, *steps]))


def _step_seconds(runner: OpenVinoRunner, num_sequences: int) -> float:
    """Of a step in which so many sequences decode, on average."""
    for past in range(_NUM_WARM):
        runner.run(_step(runner, num_sequences, past))
    started, ends_at = _processor_seconds(), time.monotonic() + _STEP_SECONDS
    num_steps = 0
    while num_steps < _MAX_STEPS and (time.monotonic() < ends_at or num_steps < _NUM_WARM):
        runner.run(_step(runner, num_sequences, _NUM_WARM + num_steps))
        num_steps += 1
    return (_processor_seconds() - started) / num_steps


def _step(runner: OpenVinoRunner, num_sequences: int, past: int) -> Batch:
    """A token of each sequence; each has blocks enough for all steps."""
    num_blocks = -(-(_NUM_WARM + _MAX_STEPS) // runner.block_size)
    draw = np.random.default_rng(past)
    return Batch(
        token_ids=draw.integers(0, runner.vocabulary_size, num_sequences),
        positions=np.full(num_sequences, past, np.int64),
        num_past=np.full(num_sequences, past, np.int32),
        begins=np.arange(num_sequences + 1, dtype=np.int32),
        block_ids=np.arange(num_sequences * num_blocks, dtype=np.int32),
        block_begins=np.arange(num_sequences + 1, dtype=np.int32) * np.int32(num_blocks),
        rows=np.arange(num_sequences),
    )


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _private_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
