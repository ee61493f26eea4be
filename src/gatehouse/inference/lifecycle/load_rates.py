"""How long loading a model takes on this machine, learnt from those that were loaded. No I/O."""

from dataclasses import dataclass

# Nothing shorter is told: clients sleep for as long as they are told, and would ask at once.
SHORTEST_SECONDS = 1.0
_SMALL_BYTES = 32 * 1024 * 1024
# How much the newest load counts against all those before it.
_NEWEST = 0.5


@dataclass(eq=False)
class LoadRates:
    """A fixed part, which small models show, and seconds per byte, which large ones do.

    The values it begins with are those of a small machine.
    """

    fixed_seconds: float = 1.5
    seconds_per_byte: float = 5e-9

    def expected_seconds(self, weight_bytes: int) -> float:
        return self.fixed_seconds + weight_bytes * self.seconds_per_byte

    def learn(self, weight_bytes: int, seconds: float) -> None:
        """Take note of a load that succeeded."""
        if weight_bytes <= _SMALL_BYTES:
            self.fixed_seconds += _NEWEST * (seconds - self.fixed_seconds)
            return
        reading = max(seconds - self.fixed_seconds, seconds / 10)
        self.seconds_per_byte += _NEWEST * (reading / weight_bytes - self.seconds_per_byte)
