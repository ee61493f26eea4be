"""The runner over OpenVINO: what it gives, what it refuses, and that it keeps to itself."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llm_models import VOCABULARY_SIZE, Running, make_batch, save_decoder
from safetensors.torch import load_file, save_file

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken
from gatehouse.engines.llm.openvino_runner import (
    ComputeType,
    OpenVinoRunner,
    OutOfBlocks,
    RunnerOptions,
    load_runner,
)
from gatehouse.engines.llm.runner import Batch
from gatehouse.engines.llm.weights import WeightsBroken

_OPTIONS = RunnerOptions(cache_bytes=2**20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder(tmp_path_factory.mktemp("decoder"), "llama", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def runner(folder: Path) -> OpenVinoRunner:
    return load_runner(folder, _OPTIONS)


def _prompt(runner: OpenVinoRunner, num_tokens: int = 40) -> Batch:
    ids = np.random.default_rng(0).integers(0, VOCABULARY_SIZE, num_tokens).tolist()
    return make_batch([(Running(ids, [0, 1, 2]), num_tokens)], runner.block_size)


def test_each_row_has_its_best_token_and_its_sum(runner: OpenVinoRunner) -> None:
    logits = runner.run(_prompt(runner))
    values = logits.values.astype(np.float64)
    np.testing.assert_array_equal(logits.best, values.argmax(-1))
    log_sums = [logits.log_sum(row) for row in range(40)]
    np.testing.assert_allclose(log_sums, np.log(np.exp(values).sum(-1)), rtol=1e-6)
    assert logits.values.shape == (40, runner.vocabulary_size)


@pytest.mark.parametrize("compute_type", ComputeType)
@pytest.mark.parametrize("rows", [[], [0], [39], [3, 17, 39], [5, 5, 4]])
def test_rows_may_be_any(folder: Path, compute_type: ComputeType, rows: list[int]) -> None:
    runner = load_runner(folder, dataclasses.replace(_OPTIONS, compute_type=compute_type))
    batch = _prompt(runner)
    every = runner.run(batch).values.copy()
    some = runner.run(dataclasses.replace(batch, rows=np.array(rows, np.int64)))
    np.testing.assert_array_equal(some.values, every[rows])
    assert len(some.best) == len(some.highest) == len(rows)


def test_logits_are_float32_though_the_rest_is_not(runner: OpenVinoRunner) -> None:
    values = runner.run(_prompt(runner)).values
    assert values.dtype == np.float32
    assert (values.view(np.uint32) & 0xFFFF).any(), "rounded to bfloat16, tokens would often tie"


def test_positions_do_not_lose_precision_far_out(tmp_path: Path) -> None:
    """In bfloat16 a position past 256 would be rounded to the next even one, and more."""
    save_decoder(tmp_path, "llama", dtype=torch.bfloat16, max_position_embeddings=16_384)
    differences = []
    runners = [
        load_runner(tmp_path, dataclasses.replace(_OPTIONS, compute_type=compute_type))
        for compute_type in ComputeType
    ]
    for offset in (0, 12_345):
        batch = _prompt(runners[0])
        batch = dataclasses.replace(batch, positions=batch.positions + offset)
        default, exact = (runner.run(batch).values for runner in runners)
        differences.append(float(np.abs(default - exact).max()))
    assert differences[1] < 2 * differences[0]


def test_padding_leaves_the_blocks_of_others_alone(folder: Path) -> None:
    """One token of a batch is filled up in float32: not with a block that the scheduler gave."""
    runner = load_runner(folder, dataclasses.replace(_OPTIONS, compute_type=ComputeType.FLOAT32))
    last = runner.num_blocks - 1
    ids = list(range(3, 24))
    sequence = Running(ids, [last])
    runner.run(make_batch([(sequence, 20)], runner.block_size))
    sequence.num_past = 20
    other = Running([5], [0])
    runner.run(make_batch([(other, 1)], runner.block_size))
    got = runner.run(make_batch([(sequence, 1)], runner.block_size)).values[0].copy()
    whole = Running(ids, [1])
    expected = runner.run(make_batch([(whole, 21)], runner.block_size)).values[-1]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_other_threads_run_meanwhile(runner: OpenVinoRunner) -> None:
    """The main thread computes; a second one must get the interpreter in between."""
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.0005):
            ticks += 1

    batch = _prompt(runner, 90)
    batch = dataclasses.replace(batch, rows=np.tile(batch.rows, 40))
    # Longer than the test: the interpreter is only passed on by who lets go of it.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    thread = threading.Thread(target=tick)
    thread.start()
    for _ in range(20):
        runner.run(batch)
    done.set()
    thread.join()
    sys.setswitchinterval(interval)
    assert ticks >= 5


def test_memory_is_weights_and_blocks(folder: Path, runner: OpenVinoRunner) -> None:
    # Keys and values of 2 layers, 2 heads of 16, in bfloat16 or, where there is none, float32.
    token_bytes = (2 * 2 * 2 * 16 * 2, 2 * 2 * 2 * 16 * 4)
    blocks = [(runner.num_blocks + 1) * runner.block_size * size for size in token_bytes]
    weights = (folder / "model.safetensors").stat().st_size
    assert any(0 <= weights + size - runner.memory_bytes() < 4096 for size in blocks)
    assert min(blocks) <= _OPTIONS.cache_bytes


def test_memory_for_no_block_is_refused(folder: Path) -> None:
    with pytest.raises(OutOfBlocks):
        load_runner(folder, RunnerOptions(cache_bytes=1000))


def test_a_runner_can_be_closed_and_loaded_again(folder: Path) -> None:
    first = load_runner(folder, _OPTIONS)
    values = first.run(_prompt(first)).values.copy()
    first.close()
    second = load_runner(folder, _OPTIONS)
    np.testing.assert_array_equal(second.run(_prompt(second)).values, values)


def _changed(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy whose `config.json` says something else."""
    entries = json.loads((folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(entries))
    (target / "model.safetensors").hardlink_to(folder / "model.safetensors")
    return target


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"architectures": ["NewForCausalLM"]}, ArchitectureUnknown, "no graph"),
        ({"hidden_act": "mish"}, ArchitectureUnknown, "activation"),
        ({"hidden_size": 96, "head_dim": 16}, WeightsBroken, "should be"),
        ({"vocab_size": 321}, WeightsBroken, "should be"),
        ({"intermediate_size": 2**20}, WeightsBroken, "should be"),
        ({"num_key_value_heads": 4}, WeightsBroken, "should be"),
        ({"num_hidden_layers": 3}, WeightsBroken, "hold no tensor"),
        ({"attention_bias": True}, WeightsBroken, "hold no tensor"),
        ({"num_hidden_layers": "2"}, ConfigBroken, "whole number"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_runner(_changed(folder, tmp_path, **changes), _OPTIONS)
    assert isinstance(caught.value, ModelNotLoadable)
    assert str(tmp_path) not in str(caught.value)


def _poison(name: str, value: float) -> Callable[[Path, Path], None]:
    def poison(folder: Path, target: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name].view(-1)[-1] = value
        save_file(tensors, target / "model.safetensors")

    return poison


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ],
)
@pytest.mark.parametrize("compute_type", ComputeType)
def test_weights_that_are_no_numbers_are_refused(
    folder: Path, tmp_path: Path, name: str, value: float, compute_type: ComputeType
) -> None:
    (tmp_path / "config.json").hardlink_to(folder / "config.json")
    _poison(name, value)(folder, tmp_path)
    with pytest.raises(WeightsBroken, match="not finite"):
        load_runner(tmp_path, dataclasses.replace(_OPTIONS, compute_type=compute_type))


_ALONE = """
import socket, sys, threading
def refuse(*_): raise SystemExit("a socket")
socket.socket.__init__ = refuse
from pathlib import Path
from gatehouse.engines.llm.openvino_runner import RunnerOptions, load_runner
load_runner(Path(sys.argv[1]), RunnerOptions(cache_bytes=2**20)).close()
assert sys.modules["openvino_telemetry"] is None
assert "torch" not in sys.modules and "transformers" not in sys.modules
assert threading.enumerate() == [threading.main_thread()]
"""


def test_nothing_is_sent_or_written_at_home(folder: Path, tmp_path: Path) -> None:
    """OpenVINO brings telemetry, which would report its import to a server."""
    environment = os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    for name in ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", _ALONE, str(folder)], env=environment, check=True)
    assert not list(tmp_path.iterdir())


_FORKED = """
import os, sys
from pathlib import Path
from gatehouse.engines.llm.openvino_runner import RunnerOptions, load_runner
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        load_runner(Path(sys.argv[1]), RunnerOptions(num_threads=2, cache_bytes=2**20)).close()
        os._exit(7)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7, 7]
"""


def test_a_process_may_be_forked_once_this_is_imported(folder: Path) -> None:
    # numpy's own threads are none of ours, and a fork among threads is warned of.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", _FORKED, str(folder)], env=environment, check=True, timeout=60
    )
