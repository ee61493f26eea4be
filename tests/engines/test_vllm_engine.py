"""The engine over vLLM, driving a real program that speaks as vLLM does, over a real socket."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
from generating import ask, run
from tiny_models import save_tiny_llama

from gatehouse.engines.base import (
    EngineOptions,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    Precision,
    RequestRefused,
    RunnerUnsuited,
    SamplingParams,
    TokensPrompt,
    WeightFormat,
)
from gatehouse.engines.vllm.engine import VllmLost, VllmTextGeneration
from gatehouse.engines.vllm.loading import load_vllm_text_generation
from gatehouse.engines.vllm.process import VllmNotStarted
from gatehouse.engines.vllm.program import VllmProgram

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are adopted on Linux")
PATIENCE = 15.0


class Fake:
    """How the program is found, and what it noted."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.model = model
        self._record = folder / "record.jsonl"
        self._path = folder / "vllm"
        self._path.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_vllm.__file__} "$@"\n')
        self._path.chmod(0o755)

    def program(self, *arguments: str) -> VllmProgram:
        return VllmProgram(self._path, ("--record", str(self._record), *arguments))

    def noted(self, name: str) -> list[Any]:
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return [note[name] for note in map(json.loads, lines) if name in note]


Load = Callable[..., VllmTextGeneration]


@pytest.fixture
def fake(tmp_path: Path, llama_folder: Path) -> Fake:
    return Fake(tmp_path, llama_folder)


@pytest.fixture
def load(fake: Fake) -> Iterator[Load]:
    """Loads engines, which end with the test."""
    loaded = []

    def load_one(
        *arguments: str, model: Path | None = None, options: EngineOptions | None = None
    ) -> VllmTextGeneration:
        engine = load_vllm_text_generation(
            model or fake.model,
            options or EngineOptions(),
            1,
            fake.program(*arguments),
            os.environ | {"PYTHONPATH": "ours", "HF_HUB_OFFLINE": "0"},
        )
        loaded.append(engine)
        return engine

    yield load_one
    for engine in loaded:
        engine.unload()


def counting(first: int, max_new_tokens: int = 5, **options: Any) -> GenerationRequest:
    return GenerationRequest(TokensPrompt((5, first)), max_new_tokens=max_new_tokens, **options)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tokens_come_with_text_scores_and_the_likeliest(load: Load) -> None:
    engine = load()
    answers = run(engine, [counting(100 + number, num_top_tokens=2) for number in range(20)])
    for number, answer in enumerate(answers):
        assert answer.ids == list(range(101 + number, 106 + number))
        assert answer.finish is not None
        assert answer.finish.reason is FinishReason.LENGTH
        assert answer.start is not None
        assert answer.start.num_prompt_tokens == 2
        first = answer.tokens[0]
        assert first.token.logprob == -1.0
        assert [(token.id, token.logprob) for token in first.top] == [
            (101 + number, -1.0),
            (300, -2.0),
        ]
    assert "".join(token.token.text for token in answers[0].tokens) == answers[0].text


def test_what_describes_the_model_says_that_vllm_runs_it(load: Load) -> None:
    described = load("--context-length", "64").describe()
    assert (described.engine, described.device, described.dtype) == ("vllm", "cpu", "bfloat16")
    assert described.architecture == "LlamaForCausalLM"
    assert described.context_length == 64
    assert described.chat is not None


def test_ends_are_found_here_and_the_rest_is_not_waited_for(load: Load, fake: Fake) -> None:
    engine = load("--token-seconds", "0.05")
    (answer,) = run(engine, [counting(303, max_new_tokens=100)])
    # 304, 0, 1 and the token that ends texts.
    assert answer.ids == [304, 0, 1, 2]
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.EOS_TOKEN
    stop = run(engine, [counting(100, 3)])[0].text
    (answer,) = run(engine, [counting(100, 100, stop=(stop,))])
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.STOP_SEQUENCE
    assert answer.text == stop
    wait_for(lambda: [100, 100] in fake.noted("hung_up"))


def test_prompts_are_scored(load: Load) -> None:
    engine = load()
    scored, alone = run(
        engine,
        [
            counting(100, 2, prompt_details=True, num_top_tokens=1),
            counting(100, 0, prompt_details=True),
        ],
    )
    assert scored.start is not None
    assert [(token.id, token.logprob) for token in scored.start.prompt_tokens] == [
        (5, None),
        (100, -1.0),
    ]
    assert [[token.id for token in top] for token in [0] for top in scored.start.prompt_top] == [
        [],
        [100],
    ]
    assert scored.ids == [101, 102]
    assert alone.ids == []
    assert alone.start is not None
    assert len(alone.start.prompt_tokens) == 2
    assert alone.finish is not None


def test_a_request_that_is_cancelled_is_hung_up_on(load: Load, fake: Fake) -> None:
    engine = load("--token-seconds", "0.05")
    engine.add(1, counting(100, 100))
    wait_for(engine.step)
    engine.cancel(1)
    wait_for(lambda: not engine.has_work() or not engine.step())
    assert not engine.has_work()
    wait_for(lambda: [100, 100] in fake.noted("hung_up"))


def test_one_refusal_leaves_the_others_alone(load: Load) -> None:
    engine = load("--token-seconds", "0.02")
    engine.add(1, counting(fake_vllm.REFUSES))
    engine.add(2, counting(100))
    failures, finished = [], []
    while engine.has_work():
        for output in engine.step():
            failures += [output.request_id] if output.failure else []
            finished += [output.request_id] if output.finish else []
    assert (failures, finished) == ([1], [2])


def test_an_engine_core_that_breaks_ends_the_host(load: Load) -> None:
    engine = load()
    engine.add(1, counting(fake_vllm.BREAKS))
    with pytest.raises(VllmLost):
        wait_for(engine.step)


def test_a_killed_vllm_ends_the_host(load: Load, fake: Fake) -> None:
    engine = load("--token-seconds", "0.05")
    engine.add(1, counting(100, 100))
    wait_for(engine.step)
    pids = fake.noted("pids")[0]
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(VllmLost):
        wait_for(lambda: engine.step() and False)
    # What vLLM leaves behind is killed too.
    wait_for(lambda: not any(map(is_there, pids)))


def test_unloading_leaves_no_process_and_no_file(fake: Fake) -> None:
    given = (fake.model, EngineOptions(), 1, fake.program(), os.environ)
    engine = load_vllm_text_generation(*given)
    assert engine.memory_bytes() > 0
    pids, socket_path = fake.noted("pids")[0], Path(_argument(fake, "--uds"))
    assert socket_path.parent.stat().st_mode & 0o077 == 0
    assert all(map(is_there, pids))
    engine.unload()
    assert not any(map(is_there, pids))
    assert not socket_path.parent.exists()


def test_vllm_does_not_outlive_a_killed_host(fake: Fake, tmp_path: Path) -> None:
    program = tmp_path / "host.py"
    given = fake.program()
    program.write_text(f"""
import os, time
from pathlib import Path
from gatehouse.engines.base import EngineOptions
from gatehouse.engines.vllm.loading import load_vllm_text_generation
from gatehouse.engines.vllm.program import VllmProgram
program = VllmProgram(Path({str(given.path)!r}), {given.arguments!r})
load_vllm_text_generation(Path({str(fake.model)!r}), EngineOptions(), 1, program, os.environ)
print("loaded", flush=True)
time.sleep(600)
""")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"loaded\n"
        pids, socket_path = fake.noted("pids")[0], Path(_argument(fake, "--uds"))
        host.kill()
    wait_for(lambda: not any(map(is_there, pids)))
    wait_for(lambda: not socket_path.parent.exists())


def test_vllm_is_told_what_it_may_not_do(load: Load, fake: Fake) -> None:
    load(options=EngineOptions(precision=Precision.EXACT))
    arguments = fake.noted("arguments")[0]
    assert _argument(fake, "--load-format") == "safetensors"
    assert _argument(fake, "--dtype") == "float32"
    assert "--trust-remote-code" not in arguments
    environment = fake.noted("environment")[0]
    told = {name: environment[name] for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS")}
    assert set(told.values()) == {"1"}
    assert environment["DO_NOT_TRACK"] == "1"
    # Its interpreter is not ours.
    assert "PYTHONPATH" not in environment


def test_requests_that_vllm_cannot_run_are_refused(load: Load) -> None:
    engine = load()
    with pytest.raises(RequestRefused, match="typical_p"):
        engine.add(1, ask("the cat", sampling=SamplingParams(typical_p=0.5)))
    with pytest.raises(RequestRefused, match="grammar is not valid"):
        engine.add(2, ask("the cat", grammar=Grammar(GrammarKind.REGEX, "(")))
    assert not engine.has_work()


def test_a_vllm_that_does_not_start_says_why(load: Load) -> None:
    reason = "ValueError: Model architectures ['Odd'] in /srv/models/odd are not supported"
    with pytest.raises(VllmNotStarted) as refused:
        load("--fail", reason)
    assert refused.value.message == (
        "vLLM could not start with this model: Model architectures ['Odd'] in a file are not "
        "supported"
    )


def test_what_vllm_does_not_do_is_left_to_another(load: Load, tmp_path: Path) -> None:
    with pytest.raises(RunnerUnsuited, match="--weights stored"):
        load(options=EngineOptions(weight_format=WeightFormat.INT8))
    folder = save_tiny_llama(tmp_path / "suppressing")
    config = folder / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"suppress_tokens": [7]}))
    with pytest.raises(RunnerUnsuited, match="suppress_tokens"):
        load(model=folder)


def _argument(fake: Fake, name: str) -> str:
    arguments: list[str] = fake.noted("arguments")[0]
    return arguments[arguments.index(name) + 1]
