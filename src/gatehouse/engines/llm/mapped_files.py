"""Files that are mapped into memory, and how little of them is kept there while they are read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# In this time a gigabyte is read at the most.
_SECONDS = 0.05


class MappedFiles(Protocol):
    """Files that a process reads where the system has them."""

    def let_go(self) -> None:
        """Leave what was read to the system, which reads it again when asked for."""
        ...


@contextmanager
def letting_go(*files: MappedFiles) -> Iterator[None]:
    """Leave what is read of files to the system, again and again, and once more at the end.

    Whoever makes another form of all weights would otherwise have both in memory at the end, though
    each weight is read once.
    """
    is_over = threading.Event()

    def let_go_again() -> None:
        while not is_over.wait(_SECONDS):
            for file in files:
                file.let_go()

    thread = threading.Thread(target=let_go_again, name="letting_go", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        for file in files:
            file.let_go()
