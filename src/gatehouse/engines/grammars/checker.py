"""A process that tries grammars out, so that none can hang, swell or crash a model host.

llguidance has limits, but not for everything: `multipleOf` of a large number takes a minute, a long
chain of rules overflows the stack. Each grammar is compiled in a child of this process, with little
CPU time, memory and stack; what passes is safe to compile again in the host. Run as
`python -m gatehouse.engines.grammars.checker FD`, where FD is one end of a stream socket.
"""

import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec
from llguidance import LLMatcher, LLTokenizer

from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.engines.grammars.texts import LIMITS, compile_error
from gatehouse.engines.process import limit_memory

# CPU time, of the whole compilation and the first steps. Honest grammars take milliseconds.
CPU_SECONDS = 1.0
MEMORY_BYTES = 96 * 1024 * 1024
# An eighth of what threads of the host have on Linux.
_STACK_BYTES = 1024 * 1024
# Some grammars unfold on the first tokens only.
_NUM_TRIED_TOKENS = 8
_READ_BYTES = 65536
# Which token is meant makes no difference to the cost, and this vocabulary has bytes alone.
_TOKEN_ID = re.compile(r"<\[\d+\]>")
_SOME_TOKEN = "<[0]>"  # noqa: S105 - of a vocabulary


class CheckGrammar(msgspec.Struct, frozen=True):
    """A grammar as llguidance reads it."""

    text: str


class GrammarChecked(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        error: Why it cannot be used; empty if it can.
        num_bytes: Memory that it takes, about.
    """

    error: str
    num_bytes: int = 0


def check_grammar(text: str) -> GrammarChecked:
    """Compile a grammar over a vocabulary of bytes, and take its first steps."""
    before = _data_bytes()
    text = _TOKEN_ID.sub(_SOME_TOKEN, text)
    matcher = LLMatcher(LLTokenizer("byte"), text, limits=LIMITS, log_level=0)
    for _ in range(_NUM_TRIED_TOKENS):
        if matcher.is_error() or matcher.is_stopped():
            break
        allowed = matcher.compute_logit_bias()
        if matcher.is_error():
            break
        matcher.consume_token(next(token for token, bias in enumerate(allowed) if bias))
    return GrammarChecked(compile_error(matcher), max(0, _data_bytes() - before))


def serve(connection: socket.socket) -> None:
    """Check grammars, one after the other, until the other side hangs up."""
    reader: FrameReader[CheckGrammar] = FrameReader(CheckGrammar)
    while data := connection.recv(_READ_BYTES):
        for order in reader.feed(data):
            if not _check_in_child(order.text, connection):
                too_costly = "it takes too much time or memory to compile"
                connection.sendall(encode_frame(GrammarChecked(too_costly)))


def _check_in_child(text: str, connection: socket.socket) -> bool:
    """Whether a child answered; if not, it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            limit_memory(MEMORY_BYTES)
            # Its default action ends the process.
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            threading.stack_size(_STACK_BYTES)
            worker = threading.Thread(target=_answer, args=(text, connection))
            worker.start()
            worker.join()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _answer(text: str, connection: socket.socket) -> None:
    connection.sendall(encode_frame(check_grammar(text)))
    os._exit(0)


def _data_bytes() -> int:
    """Memory of this process (Linux; elsewhere unknown, 0)."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
