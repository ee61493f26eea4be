"""How fast this machine reads memory: what bounds the decoding of one stream.

A program of its own, so that its memory is given back: prints bytes per second.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

_BYTES = 1 << 30
_ROUNDS = 7


def measure(num_threads: int) -> float:
    """The best of some rounds: each thread reads its part of a gibibyte in order."""
    parts = np.array_split(np.ones(_BYTES // 4, dtype=np.float32), num_threads)
    best = 0.0
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            list(threads.map(_read, parts))
            best = max(best, _BYTES / (time.perf_counter() - started))
    return best


def _read(part: NDArray[np.float32]) -> float:
    # The interpreter lock is not held meanwhile.
    return float(np.dot(part, part))


if __name__ == "__main__":
    sys.stdout.write(f"{measure(int(sys.argv[1]))}\n")
