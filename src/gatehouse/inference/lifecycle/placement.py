"""Which models are in memory, who holds them, and which must go to make room. No I/O."""

from dataclasses import dataclass, field

from gatehouse.engines.base import EngineOptions, ModelDescription, RunnerName, WeightFormat
from gatehouse.inference.lifecycle.messages import ModelSource

# On top of the weights: what Python and activations of a quiet host take.
_OVERHEAD_BYTES = 96 * 1024 * 1024
_OVERHEAD_RATIO = 1.1
# Of weights stored in 16 bits. Measured at 1.1 B parameters: 0.48 and 0.29; an embedding stays.
_FORMAT_RATIOS = {WeightFormat.STORED: 1.0, WeightFormat.INT8: 0.6, WeightFormat.INT4: 0.4}
# No honest model comes near these: they are for files made to take all there is.
_LIMIT_RATIO = 2
_LIMIT_OVERHEAD_BYTES = 4 * 1024**3
_LOAD_SECONDS = 120.0
_LOAD_BYTES_PER_SECOND = 20e6
# vLLM beside that: its libraries, in several processes, and what it compiles before it answers.
_VLLM_BYTES = 3 * 1024**3
_VLLM_SECONDS = 480.0


@dataclass(eq=False)
class Placement:
    """One model's place in memory.

    Attributes:
        host_id: Given once, never again.
        started_at: When loading began, on the caller's clock.
        expected_seconds: How long loading was expected to take when it began.
        startup_seconds: The part of it in which no host could be started yet.
        description: None while the model is loading.
        loaded_at: When loading ended.
        num_leases: Requests that hold on to it now.
        last_used: When the last of them let go, on the caller's clock.
        failure: Why it could not be loaded.
        is_pinned: It stays, used or not.
        is_gone: Its host has ended.
        pid: Its host's process, once it is known.
    """

    host_id: int
    source: ModelSource
    socket_path: str
    memory_bytes: int
    started_at: float = 0.0
    expected_seconds: float = 0.0
    startup_seconds: float = 0.0
    description: ModelDescription | None = None
    loaded_at: float = 0.0
    num_leases: int = 0
    last_used: float = 0.0
    failure: str | None = None
    is_pinned: bool = False
    is_gone: bool = False
    pid: int | None = None

    @property
    def may_go(self) -> bool:
        return self.num_leases == 0 and self.description is not None and not self.is_pinned


@dataclass(eq=False)
class Placements:
    """All places within a budget of bytes."""

    budget_bytes: int
    _by_key: dict[str, Placement] = field(default_factory=dict)

    @property
    def used_bytes(self) -> int:
        return sum(place.memory_bytes for place in self._by_key.values())

    def get(self, key: str) -> Placement | None:
        return self._by_key.get(key)

    def all(self) -> list[Placement]:
        return list(self._by_key.values())

    def add(self, place: Placement) -> None:
        assert place.source.key not in self._by_key
        self._by_key[place.source.key] = place

    def remove(self, place: Placement) -> bool:
        """Forget a place. False if it was forgotten before."""
        if self._by_key.get(place.source.key) is not place:
            return False
        del self._by_key[place.source.key]
        return True

    def largest_room(self, key: str) -> int:
        """Bytes that the model could have if everything left that may ever leave."""
        pinned = (place for place in self.all() if place.is_pinned and place.source.key != key)
        return self.budget_bytes - sum(place.memory_bytes for place in pinned)

    def room_for(self, needed_bytes: int) -> list[Placement] | None:
        """The idle places to give up, least recently used first; None if that is not enough."""
        missing = self.used_bytes + needed_bytes - self.budget_bytes
        given_up = []
        for place in sorted(self.all(), key=lambda place: place.last_used):
            if missing <= 0:
                break
            if place.may_go:
                given_up.append(place)
                missing -= place.memory_bytes
        return given_up if missing <= 0 else None

    def stuck_at(self, moment: float) -> list[Placement]:
        """Places whose model has been loading for longer than it may."""
        return [
            place
            for place in self.all()
            if place.description is None
            and place.failure is None
            and moment - place.started_at > load_limit_seconds(place.source)
        ]

    def idle_since(self, moment: float) -> list[Placement]:
        """Places that nobody has held since `moment`."""
        return [place for place in self.all() if place.may_go and place.last_used <= moment]


def needed_bytes(source: ModelSource) -> int:
    """Memory to set aside for a model before it has been loaded."""
    more = _VLLM_BYTES if _is_by_vllm(source.options) else 0
    ratio = _OVERHEAD_RATIO * _FORMAT_RATIOS[source.options.weight_format]
    return int(source.weight_bytes * ratio) + _OVERHEAD_BYTES + source.cache_bytes + more


def memory_limit_bytes(weight_bytes: int) -> int:
    """Memory that a host may take at the most, its key-value cache included."""
    return weight_bytes * _LIMIT_RATIO + _LIMIT_OVERHEAD_BYTES


def load_limit_seconds(source: ModelSource) -> float:
    """How long loading may take."""
    more = _VLLM_SECONDS if _is_by_vllm(source.options) else 0.0
    return _LOAD_SECONDS + more + source.weight_bytes / _LOAD_BYTES_PER_SECOND


def _is_by_vllm(options: EngineOptions) -> bool:
    return options.runner is RunnerName.VLLM
