"""The fork server: a process that has torch and transformers imported, and forks model hosts.

Its own, because `multiprocessing`'s pickles. Run as `python -m gatehouse.engines.fork_server FD`,
where FD is one end of a packet socket to the supervisor. It stays single-threaded, runs no model
itself, and ends when the supervisor hangs up.
"""

import gc
import logging
import os
import selectors
import signal
import socket
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

import msgspec

from gatehouse.engines.host import run_host
from gatehouse.engines.messages import (
    ForkHost,
    ForkServerReady,
    HostExited,
    HostForked,
    KillHost,
    ToForkServer,
)
from gatehouse.engines.process import follow_parent, limit_memory

_PACKET_BYTES = 65536
# What the first model would otherwise import on its own time. Names that lazy packages resolve late
# too.
_MODULES = (
    "gatehouse.engines.pipelines.text_generation",
    "gatehouse.engines.pipelines.embeddings",
    "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.generation.utils",
    "safetensors.torch",
    "jinja2.sandbox",
)
# The same for models that OpenVINO runs, where it is installed. Importing it starts no thread.
_OPENVINO_MODULES = ("gatehouse.engines.llm.loading",)

_log = logging.getLogger(__name__)


class ForkServer:
    """Forks a host for every order, and reports those that exit."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        # A signal only writes a byte here; the loop then collects the dead.
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._send(ForkServerReady())
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._wake_reader:
                        self._wake_reader.recv(_PACKET_BYTES)
                        self._collect_dead()
                    elif not self._obey():
                        self._end()
                        return

    def _obey(self) -> bool:
        """Read one order. False when the supervisor has gone."""
        packet, descriptors, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 1)
        if not packet:
            return False
        order: ToForkServer = msgspec.msgpack.decode(packet, type=ToForkServer)
        if isinstance(order, KillHost):
            self._kill(order.host_id)
        else:
            self._fork(order, *descriptors)
        return True

    def _fork(self, order: ForkHost, descriptor: int) -> None:
        server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_host(order, descriptor, server_pid)
        os.close(descriptor)
        self._children[pid] = order.host_id
        self._send(HostForked(order.host_id, pid))

    def _kill(self, host_id: int) -> None:
        # A child that was not waited for keeps its number, so this cannot hit a stranger.
        for pid in [pid for pid, owner in self._children.items() if owner == host_id]:
            os.kill(pid, signal.SIGKILL)

    def _become_host(self, order: ForkHost, descriptor: int, server_pid: int) -> NoReturn:
        """The child's whole life. It never returns into the server's loop."""
        follow_parent(server_pid)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for inherited in (self._control, self._wake_reader, self._wake_writer):
            inherited.close()
        exit_code = 1
        try:
            limit_memory(order.memory_limit_bytes)
            import_module("torch").set_num_threads(order.num_threads)
            exit_code = run_host(order, socket.socket(fileno=descriptor))
        except Exception:  # noqa: BLE001 - outermost of this process
            _log.exception("The host broke.")
        finally:
            os._exit(exit_code)

    def _collect_dead(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            host_id = self._children.pop(pid)
            self._send(HostExited(host_id, os.waitstatus_to_exitcode(status)))

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _send(self, message: ForkServerReady | HostForked | HostExited) -> None:
        try:
            self._control.send(msgspec.msgpack.encode(message))
        except BrokenPipeError:
            _log.info("The supervisor has gone.")  # the next read says so, and ends us


def main() -> None:
    # Ctrl-C goes to every process of a terminal; the supervisor decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent(os.getppid())
    logging.basicConfig(level=logging.WARNING)
    control = socket.socket(fileno=int(sys.argv[1]))
    _preload()
    ForkServer(control).run()


def _preload() -> None:
    """Import what hosts need, and leave it out of their garbage collections.

    Those would write into every object: into memory that a host shares with this process else.
    """
    gc.disable()
    import_module("torch").set_num_threads(1)
    for name in _MODULES + (_OPENVINO_MODULES if find_spec("openvino") else ()):
        import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
