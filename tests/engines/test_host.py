"""A host over real Unix sockets, with an engine that counts instead of computing."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from gatehouse.engines import host as host_module
from gatehouse.engines.base import (
    EmbeddingOutput,
    EmbeddingRequest,
    Embeddings,
    Failure,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    ModelDescription,
    Prompt,
    PromptToken,
    RefusalKind,
    RequestRefused,
    ScoredToken,
    SequenceOutput,
    TextPrompt,
    TokenizedPrompt,
)
from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.engines.host import Host, listen
from gatehouse.engines.messages import (
    Cancel,
    Embed,
    Embedded,
    Generate,
    HostToWorker,
    Refused,
    Stepped,
    Tokenize,
    Tokenized,
    WorkerToHost,
)


class CountingEngine:
    """Says 0, 1, 2 … for each request, a number a step, until `max_new_tokens`."""

    def __init__(self) -> None:
        self.running: dict[int, tuple[GenerationRequest, int]] = {}
        self.embeddings: dict[int, EmbeddingRequest] = {}
        self.is_broken = False
        self.may_go_on = Event()

    def describe(self) -> ModelDescription:
        return ModelDescription("counting", "None", 8, False, (), "none", "cpu", 0)

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        if isinstance(request, EmbeddingRequest):
            self.embeddings[request_id] = request
            return
        assert isinstance(request.prompt, TextPrompt)
        if request.prompt.text == "refuse":
            raise RequestRefused(RefusalKind.VALIDATION, "no")
        if request.prompt.text == "half":
            raise RequestRefused(RefusalKind.TEMPLATE, "no \ud800")
        if request.prompt.text == "raise":
            raise ZeroDivisionError
        if request.prompt.text == "hang":
            self.may_go_on.wait(10)
        self.is_broken = request.prompt.text == "break"
        self.running[request_id] = (request, 0)

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        assert isinstance(prompt, TextPrompt)
        if prompt.text == "half":
            return TokenizedPrompt((), "\ud800")
        return TokenizedPrompt((PromptToken(7, prompt.text, 0, len(prompt.text)),), prompt.text)

    def cancel(self, request_id: int) -> None:
        self.running.pop(request_id, None)
        self.embeddings.pop(request_id, None)

    def has_work(self) -> bool:
        return bool(self.running or self.embeddings)

    def step(self) -> list[SequenceOutput | EmbeddingOutput]:
        if self.is_broken:
            raise ZeroDivisionError
        time.sleep(0.001)
        embeddings, self.embeddings = self.embeddings, {}
        return [
            *(self._count(number) for number in list(self.running)),
            *(self._embed(number, request) for number, request in embeddings.items()),
        ]

    def _embed(self, number: int, request: EmbeddingRequest) -> EmbeddingOutput:
        if request.texts == ("break",):
            return EmbeddingOutput(number, failure=Failure(RefusalKind.GENERATION, "broke"))
        count = len(request.texts)
        return EmbeddingOutput(number, Embeddings((b"1234",) * count, (1,) * count))

    def _count(self, number: int) -> SequenceOutput:
        request, count = self.running[number]
        token = GeneratedToken(ScoredToken(count, str(count), -1.0, False), str(count))
        finish = None
        self.running[number] = (request, count + 1)
        if count + 1 == request.max_new_tokens:
            finish = Finish(FinishReason.LENGTH, count + 1)
            del self.running[number]
        return SequenceOutput(number, (token,), None, finish)

    def memory_bytes(self) -> int:
        return 0

    def unload(self) -> None:
        self.running.clear()


class Worker:
    """The hub's end of the socket, blocking."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self._reader: FrameReader[HostToWorker] = FrameReader(HostToWorker)
        self._messages: list[HostToWorker] = []

    def close(self) -> None:
        self.socket.close()

    def send(self, message: WorkerToHost) -> None:
        self.socket.sendall(encode_frame(message))

    def receive(self) -> HostToWorker:
        while not self._messages:
            self._messages += self._reader.feed(self.socket.recv(65536))
        return self._messages.pop(0)

    def outputs(self, *, num_finished: int) -> list[SequenceOutput]:
        outputs: list[SequenceOutput] = []
        while sum(output.is_last for output in outputs) < num_finished:
            message = self.receive()
            assert isinstance(message, Stepped)
            outputs += message.outputs
        return outputs


Connect = Callable[[], Worker]


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine()


@pytest.fixture
def crashed() -> Event:
    return Event()


@pytest.fixture
def path(tmp_path: Path, engine: CountingEngine, crashed: Event) -> Iterator[str]:
    path = str(tmp_path / "h.sock")
    host = Host(engine, listen(path), on_crash=crashed.set, prompt_seconds=0.3)
    host.start()
    yield path
    engine.may_go_on.set()
    host.stop()


@pytest.fixture
def connect(path: str) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Worker(path)))


def ask(text: str = "go", max_new_tokens: int = 3) -> GenerationRequest:
    return GenerationRequest(prompt=TextPrompt(text), max_new_tokens=max_new_tokens)


def wait_until_idle(engine: CountingEngine) -> None:
    deadline = time.monotonic() + 10
    while engine.running:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_worker_gets_its_own_tokens_under_its_own_numbers(connect: Connect) -> None:
    first, second = connect(), connect()
    first.send(Generate(1, ask(max_new_tokens=4)))
    second.send(Generate(1, ask(max_new_tokens=2)))
    first.send(Generate(9, ask(max_new_tokens=3)))
    ours = first.outputs(num_finished=2)
    assert [o.tokens[0].piece for o in ours if o.request_id == 1] == ["0", "1", "2", "3"]
    assert [o.tokens[0].piece for o in ours if o.request_id == 9] == ["0", "1", "2"]
    assert [o.tokens[0].piece for o in second.outputs(num_finished=1)] == ["0", "1"]


def test_refusal_comes_back_and_others_go_on(connect: Connect) -> None:
    worker = connect()
    worker.send(Generate(1, ask("refuse")))
    assert worker.receive() == Refused(1, RefusalKind.VALIDATION, "no")
    worker.send(Generate(2, ask("raise")))
    refused = worker.receive()
    assert isinstance(refused, Refused)
    assert refused.kind is RefusalKind.GENERATION
    worker.send(Generate(3, ask()))
    assert len(worker.outputs(num_finished=1)) == 3


def test_prompt_is_tokenized_while_others_run(connect: Connect) -> None:
    worker = connect()
    worker.send(Tokenize(1, TextPrompt("hello")))
    answer = worker.receive()
    assert isinstance(answer, Tokenized)
    assert answer.request_id == 1
    assert answer.prompt.tokens == (PromptToken(7, "hello", 0, 5),)


def test_prompts_that_wait_to_be_read_go_by_priority(
    tmp_path: Path, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "_PROMPT_THREADS", 1)
    path = str(tmp_path / "one.sock")
    host = Host(engine, listen(path), on_crash=lambda: None)
    host.start()
    with contextlib.closing(Worker(path)) as worker:
        worker.send(Generate(1, ask("hang", 1)))
        worker.send(Tokenize(2, TextPrompt("free"), priority=2))
        worker.send(Generate(3, GenerationRequest(TextPrompt("refuse"), priority=1)))
        worker.send(Tokenize(4, TextPrompt("pro"), priority=1))
        deadline = time.monotonic() + 10
        while host._unread.qsize() < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        engine.may_go_on.set()
        answers = [worker.receive() for _ in range(4)]
    host.stop()
    order = [answer.request_id for answer in answers if isinstance(answer, Refused | Tokenized)]
    assert order == [3, 4, 2]


@pytest.mark.parametrize("message", [Generate(1, ask("half")), Tokenize(1, TextPrompt("half"))])
def test_words_that_no_message_can_hold_are_answered_too(
    connect: Connect, message: WorkerToHost
) -> None:
    worker = connect()
    worker.send(message)
    refused = worker.receive()
    assert isinstance(refused, Refused)
    assert refused.request_id == 1


def test_vectors_come_back_whole_or_not_at_all(connect: Connect) -> None:
    worker = connect()
    worker.send(Embed(4, EmbeddingRequest(("a", (1, 2)))))
    assert worker.receive() == Embedded(4, Embeddings((b"1234",) * 2, (1, 1)))
    worker.send(Embed(5, EmbeddingRequest(("break",))))
    assert worker.receive() == Refused(5, RefusalKind.GENERATION, "broke")


def test_cancelled_request_leaves_the_engine(connect: Connect, engine: CountingEngine) -> None:
    worker = connect()
    worker.send(Generate(1, ask(max_new_tokens=10**6)))
    worker.receive()
    worker.send(Cancel(1))
    wait_until_idle(engine)


def test_worker_that_dies_takes_its_requests_along(
    connect: Connect, engine: CountingEngine
) -> None:
    worker, other = connect(), connect()
    worker.send(Generate(1, ask(max_new_tokens=10**6)))
    worker.receive()
    worker.socket.close()
    wait_until_idle(engine)
    other.send(Generate(1, ask()))
    assert len(other.outputs(num_finished=1)) == 3


def test_foreign_bytes_close_that_connection_only(connect: Connect) -> None:
    stranger, worker = connect(), connect()
    stranger.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert stranger.socket.recv(10) == b""
    worker.send(Generate(1, ask()))
    assert len(worker.outputs(num_finished=1)) == 3


def test_step_that_raises_is_reported(connect: Connect, crashed: Event) -> None:
    connect().send(Generate(1, ask("break")))
    assert crashed.wait(10)


def test_prompt_that_hangs_is_refused_and_ends_the_host(connect: Connect, crashed: Event) -> None:
    worker = connect()
    worker.send(Generate(1, ask("hang")))
    refused = worker.receive()
    assert isinstance(refused, Refused)
    assert refused.request_id == 1
    assert "did not finish" in refused.message
    assert crashed.wait(10)


def test_quick_prompts_are_never_overdue(connect: Connect, crashed: Event) -> None:
    worker = connect()
    for number in range(50):
        worker.send(Generate(number, ask()))
    worker.outputs(num_finished=50)
    assert not crashed.wait(1)


def test_socket_is_for_this_user_only(path: str) -> None:
    assert Path(path).stat().st_mode & 0o077 == 0
