"""The end of hosts that hang, in processes of their own."""

import signal
import subprocess
import sys

import pytest

from gatehouse.engines.process import limit_memory

_PROGRAM = """
import time
from gatehouse.engines.watchdog import end_when_silent
end_when_silent(0.5)
{what_comes}
"""


def run(what_comes: str) -> int:
    program = _PROGRAM.format(what_comes=what_comes)
    return subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode


def test_a_call_that_never_gives_the_interpreter_back_ends_the_process() -> None:
    assert run("9 ** int('9' * 9)") == -signal.SIGALRM


@pytest.mark.parametrize(
    "busy", ["time.sleep(2)", "end = time.time() + 2\nwhile time.time() < end: pass"]
)
def test_a_process_that_works_or_waits_goes_on(busy: str) -> None:
    assert run(busy) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such limit")
def test_memory_over_the_limit_is_refused() -> None:
    program = (
        f"from {limit_memory.__module__} import limit_memory\n"
        "limit_memory(100 * 2**20)\n"
        "kept = b'x' * (50 * 2**20)\n"
        "try: more = b'x' * (100 * 2**20)\n"
        "except MemoryError: raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
