"""The host's end of the process that checks grammars: started at the first one, ended with us."""

import os
import socket
import subprocess
import sys
import threading

from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.engines.grammars.checker import CheckGrammar, GrammarChecked
from gatehouse.engines.grammars.texts import GrammarInvalid, GrammarNotChecked

_MODULE = "gatehouse.engines.grammars.checker"
# Of the clock, for a second of CPU time on a machine with a lot else to do.
_PATIENCE_SECONDS = 15.0
_READ_BYTES = 65536


class GrammarChecks:
    """Asks a checking process, one grammar at a time; usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def check(self, text: str) -> int:
        """The memory that a grammar takes once compiled, in bytes, about.

        Raises:
            GrammarInvalid: It cannot be used, or takes too much to compile.
            GrammarNotChecked: The process did not answer in time.
        """
        with self._lock:
            connection = self._socket or self._start()
            try:
                checked = _ask(connection, text)
            except OSError:
                self._end()
                raise GrammarNotChecked("it could not be checked in time") from None
        if checked.error:
            raise GrammarInvalid(checked.error)
        return checked.num_bytes

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # What the allocator says when it meets the limit is of no use to anybody.
                stderr=subprocess.DEVNULL,
                env=os.environ,
            )
        ours.settimeout(_PATIENCE_SECONDS)
        self._socket = ours
        return ours

    def _end(self) -> None:
        if self._process is None or self._socket is None:
            return
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._process = self._socket = None


def _ask(connection: socket.socket, text: str) -> GrammarChecked:
    reader: FrameReader[GrammarChecked] = FrameReader(GrammarChecked)
    connection.sendall(encode_frame(CheckGrammar(text)))
    while data := connection.recv(_READ_BYTES):
        for checked in reader.feed(data):
            return checked
    raise ConnectionResetError
