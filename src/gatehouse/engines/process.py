"""What a computing process needs of the system: thread policy, environment, a parent to follow."""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

# Read by libgomp and OpenBLAS when they load, so it has to be set before Python imports torch.
# Spinning at barriers is 20 to 60 times slower as soon as another process wants a core. One
# OpenBLAS thread keeps the fork server single-threaded; a process with threads cannot be forked
# safely.
THREAD_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_OFFLINE_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
# Everything else stays outside: the hub's environment may hold its secrets.
_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "TZ"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME"),
    # Settings that hosts alone need.
    *("GATEHOUSE_VLLM", "GATEHOUSE_VLLM_ARGUMENTS"),
)
_PR_SET_PDEATHSIG = 1

# Under this, a second thread costs more than it gives (measured with a 15 M and a 135 M model).
_SMALL_MODEL_BYTES = 100 * 1024 * 1024


def compute_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for processes that run models: no secrets, no network, patient threads."""
    kept = {name: environment[name] for name in _INHERITED if name in environment}
    return kept | THREAD_ENVIRONMENT | _OFFLINE_ENVIRONMENT


def choose_num_threads(weight_bytes: int, num_cores: int) -> int:
    """Threads for operations of torch: one core is left to the hub on small machines."""
    if weight_bytes < _SMALL_MODEL_BYTES:
        return 1
    return max(1, num_cores - 1 if num_cores <= 8 else num_cores - 2)


def follow_parent(parent_pid: int) -> None:
    """Be killed when the parent dies (Linux; elsewhere the closed socket ends us)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the call
        os._exit(1)


def limit_memory(more_bytes: int) -> None:
    """Let allocations fail once this process has `more_bytes` more than now (Linux only).

    Files that are mapped for reading do not count. Should the machine run out of memory all the
    same, this process is the first to go. A program that it starts may lift the limit again.
    """
    if sys.platform != "linux":
        return
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmData:"))
    wanted = int(line.split()[1]) * 1024 + more_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    Path("/proc/self/oom_score_adj").write_text("1000")


def descendants(pid: int) -> list[int]:
    """A process, its children, theirs, and so on, as far as they still run (Linux)."""
    found = [pid]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, listed.read_text().split())
            except OSError:
                continue
    return found
