"""Types of messages are prepared by whichever thread is first; the others must wait for it."""

import subprocess
import sys

# In a process of its own, as each type is prepared once, and as it is the process that would die.
PROGRAM = """
import sys, threading
from gatehouse.engines.base import GenerationRequest, TextPrompt
from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.engines.messages import Generate, WorkerToHost

sys.setswitchinterval(1e-6)
frame = encode_frame(Generate(1, GenerationRequest(TextPrompt("x"))))
start = threading.Barrier(6)
read = []

def run():
    start.wait()
    reader = FrameReader(WorkerToHost)
    for _ in range(50):
        read.extend(reader.feed(frame))

threads = [threading.Thread(target=run) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(read))
"""


def test_readers_that_begin_at_the_same_moment_read_whole_messages() -> None:
    for _ in range(4):  # without the lock, seven in ten die
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "300\n"), done.stderr
