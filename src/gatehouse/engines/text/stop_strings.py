"""Ends a text at the first stop string, wherever token borders fall. Pure text."""

from collections.abc import Sequence


class StopStrings:
    """Passes a text on piece by piece until a stop string is complete.

    Args:
        stops: Non-empty texts.
        keep: Whether the stop string itself is passed on. If not, text that may still become one is
            held back.
    """

    def __init__(self, stops: Sequence[str], *, keep: bool) -> None:
        self._stops = tuple(stops)
        self._keep = keep
        self._longest = max(map(len, stops), default=0)
        self._tail = ""
        self._num_held = 0
        self.is_stopped = False

    def feed(self, piece: str) -> str:
        """Add text and return what may be shown now; `is_stopped` tells whether it ended."""
        if not self._stops:
            return piece
        text = self._tail + piece
        shown = len(self._tail) - self._num_held
        match = self._first_match(text)
        if match is not None:
            self.is_stopped = True
            self._tail, self._num_held = "", 0
            return text[shown : match[1] if self._keep else match[0]]
        self._num_held = 0 if self._keep else self._num_undecided(text)
        self._tail = text[max(0, len(text) - self._longest + 1) :]
        return text[shown : len(text) - self._num_held]

    def flush(self) -> str:
        """The text held back, when no more will come."""
        held = self._tail[len(self._tail) - self._num_held :]
        self._tail, self._num_held = "", 0
        return held

    def _first_match(self, text: str) -> tuple[int, int] | None:
        """Start and end of the stop string that is complete first; of several, the longest."""
        matches = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if not matches:
            return None
        end, start = min(matches)
        return start, end

    def _num_undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
