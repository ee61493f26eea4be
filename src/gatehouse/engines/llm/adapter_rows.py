"""Which rows of a store each adapter in it has. Knows neither files nor matrices."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Place:
    begin: int
    end: int
    num_holders: int = 0


class AdapterRows:
    """Gives adapters rows, and those of the one unused for longest to another when they are short.

    Rows come in steps: products then meet the zeros of other adapters in whole vectors, and their
    sums stay those that they were alone.
    """

    STEP = 16

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows // self.STEP * self.STEP
        # Those used last come last.
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    @property
    def num_used(self) -> int:
        """Nobody has any row from this one on."""
        return max((place.end for place in self._places.values()), default=0)

    def hold(self, key: Hashable) -> tuple[int, int] | None:
        """The first row and the end of an adapter that has rows: it keeps them until `release`."""
        place = self._places.get(key)
        if place is None:
            return None
        place.num_holders += 1
        self._places.move_to_end(key)
        return place.begin, place.end

    def release(self, key: Hashable) -> None:
        self._places[key].num_holders -= 1

    def allocate(self, key: Hashable, rank: int) -> tuple[int, int] | None:
        """Rows for an adapter that has none, held once; None while others hold too many."""
        width = -(-rank // self.STEP) * self.STEP
        while (begin := self._find(width)) is None:
            idle = (key for key, place in self._places.items() if not place.num_holders)
            longest = next(idle, None)
            if longest is None:
                return None
            del self._places[longest]
        self._places[key] = _Place(begin, begin + width, 1)
        return begin, begin + width

    def _find(self, width: int) -> int | None:
        """The first row of a gap that is wide enough."""
        begin = 0
        for place in sorted(self._places.values(), key=lambda place: place.begin):
            if place.begin - begin >= width:
                return begin
            begin = place.end
        return begin if self.num_rows - begin >= width else None
