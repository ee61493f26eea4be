"""Splits a server-sent event stream into the data of its events, in bounded memory. Pure bytes."""

from gatehouse.engines.remote.base import UpstreamMalformed

# The longest event that a sane server sends: one with top tokens is a few kilobytes.
MAX_EVENT_BYTES = 1024 * 1024


class EventLines:
    """Collects `data:` lines; comments and other fields are passed over.

    See https://html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an event stream".
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._num_bytes = 0
        self._ended_by_return = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Add bytes as they came; returns the data of the events that are complete.

        Raises:
            UpstreamMalformed: A line or an event is longer than it may be.
        """
        events = []
        for line in self._lines(chunk):
            event = self._take(line)
            if event is not None:
                events.append(event)
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Whole lines, without what ended them."""
        if self._ended_by_return and chunk:
            # The other half of a line end that fell between two chunks.
            chunk = chunk.removeprefix(b"\n")
            self._ended_by_return = False
        lines = chunk.splitlines(keepends=True)
        last = b"" if not lines or lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        self._ended_by_return = bool(lines) and not last and lines[-1].endswith(b"\r")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += last
        self._check_size(len(self._rest))
        return [line.rstrip(b"\r\n") for line in lines]

    def _take(self, line: bytes) -> bytes | None:
        """One whole line; returns the event that it ends."""
        if not line:
            data, self._data, self._num_bytes = self._data, [], 0
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._num_bytes += len(value)
            self._check_size(0)
        return None

    def _check_size(self, num_more: int) -> None:
        if self._num_bytes + len(self._data) + num_more > self._max_event_bytes:
            raise UpstreamMalformed(f"an event of more than {self._max_event_bytes} bytes")
