"""Real processes: a fork server that loads the real tiny model in a host."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from tiny_encoders import HIDDEN_SIZE, save_tiny_encoder

from gatehouse.engines.base import (
    ChatPrompt,
    EmbeddingRequest,
    EmbeddingTraits,
    GenerationRequest,
    Grammar,
    GrammarKind,
    TextPrompt,
)
from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.engines.messages import (
    Embed,
    Embedded,
    ForkHost,
    ForkServerReady,
    FromForkServer,
    Generate,
    HostExited,
    HostFailed,
    HostForked,
    HostReady,
    HostToSupervisor,
    HostToWorker,
    KillHost,
    Refused,
    Stepped,
)
from gatehouse.engines.process import compute_environment
from gatehouse.engines.registry import EngineName


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    control: socket.socket
    folder: Path
    num_hosts: int = 0
    memory_limit_bytes: int = 4 * 1024**3
    open_sockets: ExitStack = field(default_factory=ExitStack)

    def receive(self) -> FromForkServer:
        message: FromForkServer = msgspec.msgpack.decode(
            self.control.recv(65536), type=FromForkServer
        )
        return message

    def fork(
        self, model: Path, engine: EngineName = EngineName.TEXT_GENERATION
    ) -> tuple[ForkHost, int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(60)
        self.num_hosts += 1
        path = str(self.folder / f"{self.num_hosts}.sock")
        memory = self.memory_limit_bytes
        order = ForkHost(self.num_hosts, engine, str(model), path, 1, 1, memory)
        socket.send_fds(self.control, [msgspec.msgpack.encode(order)], [theirs.fileno()])
        theirs.close()
        self.open_sockets.enter_context(ours)
        forked = self.receive()
        assert isinstance(forked, HostForked)
        return order, forked.pid, ours


def first_word(control: socket.socket) -> HostToSupervisor:
    message: HostToSupervisor = msgspec.msgpack.decode(control.recv(65536), type=HostToSupervisor)
    return message


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 15
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(120)
    process = subprocess.Popen(
        [sys.executable, "-m", "gatehouse.engines.fork_server", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=compute_environment(os.environ),
    )
    theirs.close()
    server = Server(process, ours, tmp_path)
    assert isinstance(server.receive(), ForkServerReady)
    with ours, server.open_sockets:
        yield server
    process.wait(15)


def test_forked_hosts_serve_fail_and_die_alone(server: Server, llama_folder: Path) -> None:
    process = Path(f"/proc/{server.process.pid}")
    loaded = (process / "maps").read_text()
    libraries = ("libtorch_cpu", "tokenizers", "libopenvino")
    assert all(name in loaded for name in libraries), "each host would have to load them"
    threads = list((process / "task").iterdir())
    assert len(threads) == 1, "a process with threads cannot be forked safely"

    order, pid, control = server.fork(llama_folder)
    ready = first_word(control)
    assert isinstance(ready, HostReady)
    assert ready.description.architecture == "LlamaForCausalLM"
    assert ready.description.engine == "openvino"
    assert say(order.socket_path, "the cat")

    _, _, broken = server.fork(server.folder / "nowhere")
    failed = first_word(broken)
    assert isinstance(failed, HostFailed)
    assert "config.json" in failed.message
    assert server.receive() == HostExited(2, 1)

    other, other_pid, other_control = server.fork(llama_folder)
    assert isinstance(first_word(other_control), HostReady)
    os.kill(pid, signal.SIGSEGV)
    assert server.receive() == HostExited(1, -signal.SIGSEGV)
    assert say(other.socket_path, "the cat")

    server.control.send(msgspec.msgpack.encode(KillHost(3)))
    assert server.receive() == HostExited(3, -signal.SIGKILL)
    assert not is_running(other_pid)


def test_host_ends_when_the_supervisor_hangs_up(server: Server, llama_folder: Path) -> None:
    _, pid, control = server.fork(llama_folder)
    first_word(control)
    control.close()
    assert server.receive() == HostExited(1, 0)
    _, second, second_control = server.fork(llama_folder)
    first_word(second_control)
    server.process.kill()
    wait_for_end(second)
    wait_for_end(pid)


def test_host_may_not_take_all_memory(server: Server, llama_folder: Path) -> None:
    greedy = server.folder / "greedy"
    shutil.copytree(llama_folder, greedy)
    doubling = "{% set ns = namespace(a='0123456789abcdef') %}{% for i in range(28) %}"
    template = doubling + "{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a|length }}"
    (greedy / "chat_template.jinja").write_text(template)
    server.memory_limit_bytes = 512 * 1024**2
    order, _, control = server.fork(greedy)
    assert isinstance(first_word(control), HostReady)
    with socket.socket(socket.AF_UNIX) as worker:
        worker.settimeout(30)
        worker.connect(order.socket_path)
        prompt = ChatPrompt(({"role": "user", "content": "hello"},))
        request = GenerationRequest(prompt=prompt, max_new_tokens=1)
        worker.sendall(encode_frame(Generate(1, request)))
        reader: FrameReader[HostToWorker] = FrameReader(HostToWorker)
        messages = list(reader.feed(worker.recv(65536)))
    assert [type(message) for message in messages] == [Refused]
    # It did not die of it.
    assert say(order.socket_path, "the cat")


def test_hostile_grammar_is_refused_while_others_go_on(server: Server, llama_folder: Path) -> None:
    server.memory_limit_bytes = 512 * 1024**2
    order, pid, control = server.fork(llama_folder)
    assert isinstance(first_word(control), HostReady)
    bomb = Grammar(GrammarKind.JSON_SCHEMA, '{"type":"integer","multipleOf":999983}')
    stack = Grammar(
        GrammarKind.LARK,
        "start: a0\n" + "\n".join(f"a{n}: a{n + 1}" for n in range(20_000)) + '\na20000: "x"',
    )
    name = Grammar(GrammarKind.REGEX, "[A-Z][a-z]{3}")
    with socket.socket(socket.AF_UNIX) as worker:
        worker.settimeout(60)
        worker.connect(order.socket_path)
        for number, grammar in enumerate((None, bomb, stack, name)):
            request = GenerationRequest(TextPrompt("the cat"), max_new_tokens=100, grammar=grammar)
            worker.sendall(encode_frame(Generate(number, request)))
        reader: FrameReader[HostToWorker] = FrameReader(HostToWorker)
        refused: dict[int, str] = {}
        texts = {0: "", 3: ""}
        finished: set[int] = set()
        while len(finished | refused.keys()) < 4:
            for message in reader.feed(worker.recv(65536)):
                if isinstance(message, Refused):
                    refused[message.request_id] = message.message
                    continue
                assert isinstance(message, Stepped)
                for output in message.outputs:
                    texts[output.request_id] += "".join(token.piece for token in output.tokens)
                    finished |= {output.request_id} if output.finish else set()
    assert finished == {0, 3}
    assert refused.keys() == {1, 2}
    assert all("grammar is not valid" in sentence for sentence in refused.values())
    assert re.fullmatch("[A-Z][a-z]{3}", texts[3])
    control.close()
    assert server.receive() == HostExited(1, 0)
    wait_for_end(pid)


def test_encoder_is_served_by_its_engine(server: Server) -> None:
    encoder = save_tiny_encoder(server.folder / "encoder")
    order, _, control = server.fork(encoder, EngineName.EMBEDDINGS)
    ready = first_word(control)
    assert isinstance(ready, HostReady)
    assert ready.description.embeddings == EmbeddingTraits(HIDDEN_SIZE, is_sentence_model=False)
    with socket.socket(socket.AF_UNIX) as worker:
        worker.settimeout(30)
        worker.connect(order.socket_path)
        worker.sendall(encode_frame(Embed(1, EmbeddingRequest(("the cat", "hello")))))
        reader: FrameReader[HostToWorker] = FrameReader(HostToWorker)
        messages: list[HostToWorker] = []
        while not messages:
            messages += reader.feed(worker.recv(65536))
    (embedded,) = messages
    assert isinstance(embedded, Embedded)
    assert [len(vector) for vector in embedded.embeddings.vectors] == [4 * HIDDEN_SIZE] * 2


def test_model_with_absurd_end_tokens_is_refused(server: Server, llama_folder: Path) -> None:
    absurd = server.folder / "absurd"
    shutil.copytree(llama_folder, absurd)
    config = {"eos_token_id": [1] * 100_000}
    (absurd / "generation_config.json").write_text(json.dumps(config))
    _, _, control = server.fork(absurd)
    failed = first_word(control)
    assert isinstance(failed, HostFailed)
    assert "eos_token_id" in failed.message


def say(path: str, prompt: str) -> str:
    worker = socket.socket(socket.AF_UNIX)
    worker.settimeout(30)
    worker.connect(path)
    request = GenerationRequest(prompt=TextPrompt(prompt), max_new_tokens=5)
    worker.sendall(encode_frame(Generate(1, request)))
    reader: FrameReader[HostToWorker] = FrameReader(HostToWorker)
    text = ""
    while True:
        for message in reader.feed(worker.recv(65536)):
            assert isinstance(message, Stepped)
            for output in message.outputs:
                text += "".join(token.piece for token in output.tokens)
                if output.is_last:
                    worker.close()
                    return text
