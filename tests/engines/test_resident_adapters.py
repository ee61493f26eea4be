"""Adapters come and go on other threads while batches run."""

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from gatehouse.engines.llm import resident_adapters
from gatehouse.engines.llm.adapter_files import Adapter, LinearShape, LowRankPair
from gatehouse.engines.llm.resident_adapters import ResidentAdapters

_LAYERS = {"a": LinearShape(2, 3)}


@pytest.fixture
def eager_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_who_runs_a_batch_may_ask_while_others_fill_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(folder: Path, _layers: Mapping[str, LinearShape]) -> Adapter:
        rank = int(folder.name)
        down, up = np.ones((rank, 2), np.float32), np.ones((rank, 3), np.float32)
        return Adapter({"a": LowRankPair(down, up)})

    monkeypatch.setattr(resident_adapters, "read_adapter", read)
    store = ResidentAdapters(_LAYERS, 256, is_bfloat16=False)
    is_over = threading.Event()

    def come_and_go() -> None:
        try:
            for number in range(2_000):
                key = str(number % 40)
                store.hold(key, Path(str(1 + number % 30)))
                store.release(key)
        finally:
            is_over.set()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    while not is_over.is_set():
        assert 16 <= store.num_rows <= 256
    thread.join()
