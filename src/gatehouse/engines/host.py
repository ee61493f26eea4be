"""A model host: one engine, listening on a Unix socket for hub workers.

The engine steps on its own thread; each worker's socket is read on one; prompts are read on a few
more, by priority. The host knows nothing of repositories or users. When the supervisor closes its
socket, the host is gone.
"""

import itertools
import logging
import os
import socket
import struct
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import PriorityQueue

import msgspec

from gatehouse.engines.base import (
    EmbeddingOutput,
    Engine,
    ModelNotLoadable,
    RefusalKind,
    RequestRefused,
    SequenceOutput,
    TokenizedPrompt,
)
from gatehouse.engines.framing import FrameInvalid, FrameReader, encode_frame
from gatehouse.engines.messages import (
    Cancel,
    Embed,
    Embedded,
    ForkHost,
    Generate,
    HostFailed,
    HostReady,
    HostToWorker,
    Refused,
    Stepped,
    Tokenize,
    Tokenized,
    WorkerToHost,
)
from gatehouse.engines.registry import EngineName, find_engine
from gatehouse.engines.watchdog import PROMPT_SECONDS, PromptWatch, end_when_silent

_READ_BYTES = 65536
_PROMPT_THREADS = 2
# A worker that does not take a step's tokens for this long is stuck: it must not hold up the
# others.
_SEND_TIMEOUT_SECONDS = 5
_SWITCH_SECONDS = 0.0002

_log = logging.getLogger(__name__)


class WorkerConnection:
    """One hub worker's socket, and the engine's numbers for the requests it has under way."""

    def __init__(self, sock: socket.socket) -> None:
        timeout = struct.pack("ll", _SEND_TIMEOUT_SECONDS, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        self._socket = sock
        self._send_lock = threading.Lock()
        self.requests: dict[int, int] = {}

    def send(self, message: HostToWorker) -> None:
        """Send, or hang up if the worker does not take it: its reading thread then cleans up."""
        self.send_frame(encode_frame(message))

    def send_frame(self, frame: bytes) -> None:
        """`send` for a message that was encoded before."""
        with self._send_lock:
            try:
                self._socket.sendall(frame)
            except OSError:
                self.hang_up()

    def receive(self) -> bytes:
        """Some bytes, or none when the worker has gone."""
        try:
            return self._socket.recv(_READ_BYTES)
        except OSError:
            return b""

    def hang_up(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already gone

    def close(self) -> None:
        self._socket.close()


class Host:
    """Connects workers' requests with an engine.

    Args:
        engine: Loaded.
        listener: A bound, listening stream socket.
        on_crash: Called when a step raises, or when a prompt is not read in time; the engine is
            then of no more use.
        prompt_seconds: For reading one prompt.
    """

    def __init__(
        self,
        engine: Engine,
        listener: socket.socket,
        on_crash: Callable[[], object],
        prompt_seconds: float = PROMPT_SECONDS,
    ) -> None:
        self._engine = engine
        self._listener = listener
        self._on_crash = on_crash
        self._lock = threading.Lock()
        self._owners: dict[int, tuple[WorkerConnection, int]] = {}
        self._numbers = itertools.count(1)
        self._wake = threading.Event()
        self._is_stopping = False
        # By priority and arrival: a long prompt takes seconds, so they queue here too.
        self._unread: PriorityQueue[tuple[int, int, Generate | Tokenize | Embed]] = PriorityQueue()
        self._prompts = ThreadPoolExecutor(_PROMPT_THREADS, thread_name_prefix="prompts")
        self._watch = PromptWatch(prompt_seconds, self._give_up_on)

    def start(self) -> None:
        for loop in (self._accept_workers, self._run_engine, self._watch.run):
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()

    def stop(self) -> None:
        """Take no more workers and stop stepping. A process that exits need not call this."""
        self._is_stopping = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            _log.debug("The listener was closed already.")
        self._listener.close()
        with self._lock:
            connections = {connection for connection, _ in self._owners.values()}
        for connection in connections:
            connection.hang_up()
        self._wake.set()
        self._watch.stop()
        self._prompts.shutdown(wait=False, cancel_futures=True)

    def _accept_workers(self) -> None:
        while not self._is_stopping:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            connection = WorkerConnection(sock)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: WorkerConnection) -> None:
        reader: FrameReader[WorkerToHost] = FrameReader(WorkerToHost)
        try:
            while data := connection.receive():
                for message in reader.feed(data):
                    self._handle(connection, message)
        except FrameInvalid:
            _log.exception("A worker sent something else.")
        finally:
            with self._lock:
                left = list(connection.requests)
            for request_id in left:
                self._cancel(connection, request_id)
            connection.close()

    def _handle(self, connection: WorkerConnection, message: WorkerToHost) -> None:
        if isinstance(message, Cancel):
            self._cancel(connection, message.request_id)
            return
        with self._lock:
            number = next(self._numbers)
            connection.requests[message.request_id] = number
            self._owners[number] = (connection, message.request_id)
        self._unread.put((_priority(message), number, message))
        self._prompts.submit(self._read_next)

    def _read_next(self) -> None:
        _, number, message = self._unread.get_nowait()
        self._read(number, message)

    def _read(self, number: int, message: Generate | Tokenize | Embed) -> None:
        kind, sentence = (
            RefusalKind.GENERATION,
            "Request failed during generation: unreadable prompt",
        )
        is_read = False
        try:
            with self._watch.reading(number):
                if isinstance(message, Tokenize):
                    self._answer(number, self._engine.tokenize(message.prompt))
                else:
                    self._engine.add(number, message.request)
            is_read = True
        except RequestRefused as refused:
            kind, sentence = refused.kind, refused.message
        except Exception:  # noqa: BLE001 - outermost: tokenizers and templates come from repositories
            _log.exception("A prompt could not be read.")
        finally:
            # Also when a tokenizer panics, which is no Exception: the caller must not wait for
            # ever.
            if not is_read:
                self._refuse(number, kind, sentence)
        with self._lock:
            is_wanted = number in self._owners
        if not is_wanted:  # cancelled while its prompt was read
            self._engine.cancel(number)
        self._wake.set()

    def _answer(self, number: int, prompt: TokenizedPrompt) -> None:
        with self._lock:
            owner = self._owners.get(number)
        if owner is None:
            return
        connection, request_id = owner
        frame = encode_frame(Tokenized(request_id, prompt))
        # Only now: what cannot be sent is refused, and whoever is forgotten hears nothing more.
        self._forget(number)
        connection.send_frame(frame)

    def _give_up_on(self, overdue: list[int]) -> None:
        """Tell those whose prompts hang; the threads that read them cannot be stopped."""
        sentence = (
            "The model's chat template or tokenizer did not finish within "
            f"{self._watch.limit_seconds:g} seconds"
        )
        for number in overdue:
            self._refuse(number, RefusalKind.GENERATION, sentence)
        _log.error("A prompt was not read in time.")
        self._on_crash()

    def _refuse(self, number: int, kind: RefusalKind, sentence: str) -> None:
        owner = self._forget(number)
        if owner is not None:
            connection, request_id = owner
            connection.send(Refused(request_id, kind, _sendable(sentence)))

    def _cancel(self, connection: WorkerConnection, request_id: int) -> None:
        with self._lock:
            number = connection.requests.pop(request_id, None)
            if number is None:
                return
            del self._owners[number]
        self._engine.cancel(number)
        self._wake.set()

    def _forget(self, number: int) -> tuple[WorkerConnection, int] | None:
        with self._lock:
            owner = self._owners.pop(number, None)
            if owner is not None:
                owner[0].requests.pop(owner[1], None)
            return owner

    def _run_engine(self) -> None:
        try:
            while not self._is_stopping:
                self._wake.wait()
                self._wake.clear()
                while self._engine.has_work() and not self._is_stopping:
                    self._deliver(self._engine.step())
        except Exception:  # noqa: BLE001 - outermost: the engine's state is unknown now
            _log.exception("The engine broke.")
            self._on_crash()

    def _deliver(self, outputs: Sequence[SequenceOutput | EmbeddingOutput]) -> None:
        """Send each worker one message with all its sequences' tokens of this step."""
        batches: defaultdict[WorkerConnection, list[SequenceOutput]] = defaultdict(list)
        for output in outputs:
            if isinstance(output, EmbeddingOutput):
                self._deliver_embeddings(output)
                continue
            with self._lock:
                owner = self._owners.get(output.request_id)
            if owner is None:  # cancelled during the step
                continue
            connection, request_id = owner
            batches[connection].append(msgspec.structs.replace(output, request_id=request_id))
            if output.is_last:
                self._forget(output.request_id)
        for connection, batch in batches.items():
            connection.send(Stepped(tuple(batch)))

    def _deliver_embeddings(self, output: EmbeddingOutput) -> None:
        if output.failure is not None:
            self._refuse(output.request_id, output.failure.kind, output.failure.message)
            return
        assert output.embeddings is not None
        owner = self._forget(output.request_id)
        if owner is not None:
            connection, request_id = owner
            connection.send(Embedded(request_id, output.embeddings))


def _priority(message: Generate | Tokenize | Embed) -> int:
    return message.priority if isinstance(message, Tokenize) else message.request.priority


def _sendable(sentence: str) -> str:
    """Without halves of surrogate pairs: repositories have them, and no message can."""
    return sentence.encode(errors="replace").decode()


def listen(path: str) -> socket.socket:
    """A Unix socket at `path`, for this user only."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    Path(path).chmod(0o600)
    listener.listen()
    return listener


def run_host(order: ForkHost, control: socket.socket) -> int:
    """Load a model and serve it until the supervisor hangs up. Returns the process's exit code.

    Args:
        order: What to load, and where to listen.
        control: A packet socket to the supervisor: one `HostToSupervisor` goes out, nothing comes
            in.
    """
    try:
        load = find_engine(EngineName(order.engine))
        engine = load(Path(order.folder), order.options, order.num_cores)
        ready = msgspec.msgpack.encode(HostReady(engine.describe(), engine.memory_bytes()))
    except ModelNotLoadable as error:
        control.send(msgspec.msgpack.encode(HostFailed(_sendable(error.message))))
        return 1
    except Exception as error:  # noqa: BLE001 - outermost: libraries raise anything
        _log.exception("Loading failed.")
        sentence = f"The model could not be loaded: {type(error).__name__}."
        control.send(msgspec.msgpack.encode(HostFailed(sentence)))
        return 1
    Host(engine, listen(order.socket_path), on_crash=lambda: os._exit(70)).start()
    end_when_silent()
    # Every operation of a step waits so long for the interpreter while a prompt is read.
    sys.setswitchinterval(_SWITCH_SECONDS)
    control.send(ready)
    while control.recv(_READ_BYTES):
        _log.warning("The supervisor sent something; hosts expect nothing.")
    return 0
