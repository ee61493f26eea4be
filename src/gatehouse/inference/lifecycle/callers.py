"""Callers of models over all hub workers: how much each has under way, and how often it is refused.

No I/O. A caller is a text that the workers agree on: a user, or an address.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

# Clients that loop on 503 without sleeping are answered no faster than this.
_SECONDS_BETWEEN_REFUSALS = 1.0
_MAX_REMEMBERED = 10_000
# However many ask at once, nobody waits longer than this for a refusal.
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(eq=False)
class UnderWay:
    """Counts the calls of each caller; a call may hold several models, or one several times."""

    _calls: dict[str, Counter[Hashable]] = field(default_factory=dict)

    def enter(self, caller: str, call: Hashable, limit: int) -> bool:
        """Count one more lease of a call; False if a new call would be over the limit."""
        calls = self._calls.get(caller, Counter())
        if call not in calls and len(calls) >= limit:
            return False
        calls[call] += 1
        self._calls[caller] = calls
        return True

    def leave(self, caller: str, call: Hashable) -> None:
        calls = self._calls[caller]
        calls[call] -= 1
        if not calls[call]:
            del calls[call]
        if not calls:
            del self._calls[caller]

    def __len__(self) -> int:
        return len(self._calls)


@dataclass(eq=False)
class RefusalPace:
    """Spaces out what one caller hears about one model that is still loading."""

    _next: dict[tuple[str, str], float] = field(default_factory=dict)

    def pause(self, caller: str, key: str, moment: float) -> float:
        """Seconds to wait before the next refusal, which is hereby taken."""
        turn = max(moment, self._next.get((caller, key), 0.0))
        turn = min(turn, moment + _LONGEST_PAUSE_SECONDS)
        if len(self._next) >= _MAX_REMEMBERED:
            self._next = {who: at for who, at in self._next.items() if at > moment}
        self._next[caller, key] = turn + _SECONDS_BETWEEN_REFUSALS
        return turn - moment
