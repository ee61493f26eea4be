"""A model that the hub has vLLM run, as stock clients see it.

Once with a program that only speaks as vLLM does, for what happens to processes; and once with
vLLM itself, where it is installed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_vllm
import httpx
import psutil
import pytest
from client_process import NewProcess, python_process
from hub_server import HubServer, Person
from test_chosen_runner import PROGRAM, push_storyteller

from gatehouse.engines.vllm.program import VllmProgram, find_vllm

VLLM = find_vllm(os.environ)
PATIENCE = 30.0


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("faked")
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_vllm.__file__} "$@"\n')
    program.chmod(0o755)
    arguments = "--context-length 1024 --token-seconds 0.05"
    memory = str(8 * 1024**3)
    yield from _served(folder, VllmProgram(program), vllm_arguments=arguments, memory=memory)


def _served(
    folder: Path, program: VllmProgram, vllm_arguments: str, memory: str
) -> Iterator[HubServer]:
    server = HubServer(
        folder,
        vllm=str(program.path),
        vllm_arguments=vllm_arguments,
        model_memory_bytes=memory,
        cold_model_wait_seconds="300",
    )
    server.start()
    yield server
    server.stop()


def _push(server: HubServer, owner: Person) -> tuple[str, dict[str, str]]:
    repo_id = push_storyteller(server, owner)
    server.gatehouse("model", "set", repo_id, "--runner", "vllm")
    return f"{server.url}/models/{repo_id}", {"Authorization": f"Bearer {owner.read_token}"}


def _of_vllm(server: HubServer) -> list[psutil.Process]:
    found = []
    for process in server.processes():
        try:
            if fake_vllm.__file__ in process.cmdline() and "serve" in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_vllm_that_dies_ends_its_streams_and_is_started_again(faked: HubServer) -> None:
    url, headers = _push(faked, faked.person("alice"))
    body = {"inputs": "Once", "parameters": {"max_new_tokens": 5}}
    with httpx.Client(headers=headers, timeout=120) as client:
        first = client.post(url, json=body)
        assert first.status_code == 200, first.text
        assert client.get(f"{url}/info").json()["engine"] == "vllm"
        processes = _of_vllm(faked)
        long = {"inputs": "Once", "parameters": {"max_new_tokens": 500}}
        with client.stream("POST", f"{url}/generate_stream", json=long) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data:")
            processes[-1].kill()
            rest = list(lines)
        assert any("error" in line for line in rest), rest[-3:]
        assert not any('generated_text":"' in line for line in rest)
        again = client.post(url, json=body, headers={"x-use-cache": "0"})
        assert again.status_code == 200, again.text
    psutil.wait_procs(processes, PATIENCE)
    assert not any(process.is_running() for process in processes)


def test_no_vllm_outlives_the_server(faked: HubServer) -> None:
    processes = _of_vllm(faked)
    assert processes
    faked.kill_main_process()
    _wait_for(lambda: not any(process.is_running() for process in processes))


@pytest.mark.timeout(900)
@pytest.mark.skipif(VLLM is None, reason="vLLM is not installed: no `vllm`, no `GATEHOUSE_VLLM`")
def test_vllm_serves_the_surfaces(
    new_process: NewProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert VLLM is not None
    served = _served(tmp_path_factory.mktemp("real"), VLLM, "", str(8 * 1024**3))
    server = next(served)
    try:
        alice = server.person("alice")
        url, headers = _push(server, alice)
        warm = {"inputs": "Once", "options": {"wait_for_model": True}}
        assert httpx.post(url, json=warm, headers=headers, timeout=600).status_code == 200
        told = new_process(python_process, None, "").ask(PROGRAM, url=url, token=alice.read_token)
    finally:
        next(served, None)
    assert len(set(told["alone"])) == 4
    assert len(told["together"]) == len(told["streams"]) == 8
    assert len(told["tokens"]) == 5
    assert told["prefill"] > 3
    assert told["digits"].isdigit()
