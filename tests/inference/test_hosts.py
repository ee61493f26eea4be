"""The whole way with real processes: worker, supervisor, fork server, host, tiny model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from gatehouse.engines.base import GenerationRequest, TextPrompt
from gatehouse.engines.text.cache_bounds import MAX_RUNNING
from gatehouse.inference.errors import (
    GenerationRefused,
    HostLost,
    ModelLoading,
    ModelNotServable,
    ModelTooLarge,
    SupervisorAbsent,
    TooManyAtOnce,
)
from gatehouse.inference.lifecycle.host_connection import HeldHost
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.launch import SupervisorProcess
from gatehouse.inference.lifecycle.messages import Claim, ModelSource
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions

pytestmark = pytest.mark.anyio

LONG = 60


@pytest.fixture(scope="module")
def endless_llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a long context, which never says that it is done."""
    folder = shutil.copytree(tiny_llama, tmp_path_factory.mktemp("endless") / "model")
    for name, change in [
        ("config.json", {"max_position_embeddings": 20_000}),
        ("generation_config.json", {"suppress_tokens": [2]}),
    ]:
        content = json.loads((folder / name).read_text()) | change
        (folder / name).write_text(json.dumps(content))
    return folder


def source(folder: Path, key: str = "1:aa", weight_bytes: int = 10**6) -> ModelSource:
    return ModelSource(key, "someone/tiny", str(folder), weight_bytes)


def ask(max_new_tokens: int = 5, text: str = "the cat") -> GenerationRequest:
    return GenerationRequest(prompt=TextPrompt(text), max_new_tokens=max_new_tokens)


async def say(model: HeldHost, request: GenerationRequest) -> str:
    text = ""
    async with aclosing(model.generate(request)) as outputs:
        async for output in outputs:
            text += "".join(token.piece for token in output.tokens)
    return text


async def test_model_is_loaded_and_answers_many_at_once(
    supervisor_path: Path, tiny_llama: Path
) -> None:
    async with ModelHosts(supervisor_path) as hosts, ModelHosts(supervisor_path) as others:
        texts: list[str] = []

        async def run(worker: ModelHosts) -> None:
            async with worker.hold(source(tiny_llama), LONG) as model:
                texts.append(await say(model, ask(8)))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(run, hosts)
                tasks.start_soon(run, others)
        assert len(texts) == 8
        assert len(set(texts)) == 1
        assert texts[0]
        hold = hosts.hold(source(tiny_llama), LONG)
        async with hold as first, hosts.hold(source(tiny_llama), LONG) as second:
            assert first.connection is second.connection


async def test_refusals_and_load_failures_say_why(
    supervisor_path: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    async with ModelHosts(supervisor_path) as hosts:
        async with hosts.hold(source(tiny_llama), LONG) as model:
            with pytest.raises(GenerationRefused, match="Given: 3 `inputs` tokens and 500"):
                await say(model, ask(500))
        with pytest.raises(ModelNotServable, match=r"someone/tiny cannot be run: .*config\.json"):
            async with hosts.hold(source(tmp_path, "2:aa"), LONG):
                pass
        with pytest.raises(ModelTooLarge, match="too large to be loaded automatically"):
            async with hosts.hold(source(tiny_llama, "3:aa", 10**12), LONG):
                pass


async def test_impatient_callers_are_told_that_it_loads(
    supervisor_path: Path, tiny_llama: Path
) -> None:
    async with ModelHosts(supervisor_path) as hosts:
        cold = source(tiny_llama, "4:aa")
        with pytest.raises(ModelLoading):
            async with hosts.hold(cold, LONG, may_load=False):
                pass
        with pytest.raises(ModelLoading, match="someone/tiny is currently loading") as loading:
            async with hosts.hold(cold, 0):
                pass
        assert loading.value.estimated_time > 0
        async with hosts.hold(cold, LONG) as model:
            assert await say(model, ask())


async def test_caller_that_leaves_frees_the_host(
    supervisor_path: Path, endless_llama: Path
) -> None:
    """More leave than run at once: were they to run on, the last would wait for minutes."""
    async with (
        ModelHosts(supervisor_path) as hosts,
        hosts.hold(source(endless_llama, "6:aa"), LONG) as model,
    ):
        with anyio.fail_after(30):
            for _ in range(MAX_RUNNING + 1):
                async with aclosing(model.generate(ask(19_000))) as outputs:
                    await anext(outputs)
            assert await say(model, ask())


async def test_host_that_dies_takes_nobody_with_it(supervisor_path: Path, tiny_llama: Path) -> None:
    async with ModelHosts(supervisor_path) as hosts:
        before = child_pids()
        doomed = source(tiny_llama, "5:aa")
        async with hosts.hold(source(tiny_llama), LONG) as bystander:
            async with hosts.hold(doomed, LONG) as model:
                (pid,) = child_pids() - before
                async with aclosing(model.generate(ask(100))) as outputs:
                    await anext(outputs)
                    os.kill(pid, signal.SIGKILL)
                    with pytest.raises(HostLost):
                        async for _ in outputs:
                            pass
            assert await say(bystander, ask())
            with anyio.fail_after(20):
                async with hosts.hold(doomed, LONG) as model:
                    assert await say(model, ask())


async def test_calls_of_one_caller_are_counted_over_all_workers(
    supervisor_path: Path, tiny_llama: Path
) -> None:
    model = source(tiny_llama)
    async with ModelHosts(supervisor_path) as hosts, ModelHosts(supervisor_path) as others:
        claim = Claim("user 7", num_concurrent=1, call_id=1)
        async with hosts.hold(model, LONG, claim=claim):
            async with hosts.hold(model, LONG, claim=claim):
                pass  # another sequence of the same call
            with pytest.raises(TooManyAtOnce, match="You have 1 requests under way"):
                async with others.hold(model, LONG, claim=claim):
                    pass
            async with others.hold(model, LONG, claim=Claim("user 8", 1)):
                pass
        async with others.hold(model, LONG, claim=claim):
            pass


async def test_requests_that_wait_when_the_supervisor_dies_are_asked_again(
    tiny_llama: Path,
) -> None:
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "supervisor.sock"
        options = SupervisorOptions(str(path), 600 * 1024 * 1024, idle_seconds=600, num_cores=1)
        texts: list[str] = []
        is_answered = anyio.Event()
        async with ModelHosts(path) as hosts, anyio.create_task_group() as tasks:

            async def run() -> None:
                async with hosts.hold(source(tiny_llama), LONG) as model:
                    texts.append(await say(model, ask()))
                    is_answered.set()

            with SupervisorProcess(options) as first:
                tasks.start_soon(run)
                while not (await hosts.report()).num_waiting:  # noqa: ASYNC110 - another process
                    await anyio.sleep(0.02)
                os.kill(first.pid, signal.SIGKILL)
            clear(folder)
            with SupervisorProcess(options):
                await is_answered.wait()
        assert texts[0]


async def test_pinned_models_are_loaded_by_a_supervisor_that_was_started_anew(
    tiny_llama: Path,
) -> None:
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "supervisor.sock"
        options = SupervisorOptions(str(path), 600 * 1024 * 1024, idle_seconds=600, num_cores=1)
        async with ModelHosts(path) as hosts:
            for _ in range(2):
                with SupervisorProcess(options):
                    await hosts.pin([source(tiny_llama)])
                    (placed,) = (await hosts.report()).models
                    assert placed.is_pinned
                clear(folder)
                while hosts._link.connection is not None:  # noqa: ASYNC110 - a private thing
                    await anyio.sleep(0.02)


async def test_without_a_supervisor_the_answer_is_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatehouse.inference.lifecycle.supervisor_link._CONNECT_SECONDS", 0.1)
    async with ModelHosts(tmp_path / "nobody.sock") as hosts:
        with pytest.raises(SupervisorAbsent):
            async with hosts.hold(source(tmp_path), LONG):
                pass


def test_everything_dies_with_the_process_that_started_it(tiny_llama: Path) -> None:
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "supervisor.sock"
        program = f"""
import os, sys, time
from gatehouse.inference.lifecycle.launch import SupervisorProcess
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions
process = SupervisorProcess(SupervisorOptions({str(path)!r}, 10**9, 600.0, 1))
print(process.pid, flush=True)
time.sleep(300)
"""
        parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        supervisor = int(parent.stdout.readline())

        async def load() -> set[int]:
            async with ModelHosts(path) as hosts, hosts.hold(source(tiny_llama), LONG):
                return descendants(supervisor)

        family = anyio.run(load) | {supervisor}
        assert len(family) == 3  # supervisor, fork server, host
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 15
        while any(is_running(pid) for pid in family):
            assert time.monotonic() < deadline, "a process outlives its parent"
            time.sleep(0.02)


def test_the_hub_side_imports_no_torch() -> None:
    program = (
        "import sys, gatehouse.inference.lifecycle.hosts, gatehouse.inference.lifecycle.launch;"
        "sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def clear(folder: str) -> None:
    """Leave nothing of a supervisor that was killed, as whoever starts the next one does."""
    for left_over in Path(folder).iterdir():
        left_over.unlink()


def child_pids() -> set[int]:
    return descendants(os.getpid())


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
