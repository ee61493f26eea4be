"""Texts that mark a place in an answer, found although they come in pieces. Pure text."""


def num_undecided(text: str, marker: str) -> int:
    """Length of the longest end of `text` that may be the beginning of `marker`."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0


def split_settled(text: str, marker: str) -> tuple[str, str]:
    """What comes before the marker for certain, and the rest, which may yet be it.

    White space belongs to the rest: before a marker it is layout.
    """
    place = text.find(marker)
    settled = text[: place if place >= 0 else len(text) - num_undecided(text, marker)].rstrip()
    return settled, text[len(settled) :]
