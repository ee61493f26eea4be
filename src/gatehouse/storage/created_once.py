"""Small private files that are made when they are first asked for, and then stay as they are."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

_SECRET_BYTES = 32


def created_once(path: Path, text: str) -> str:
    """What is in a file that only its owner may read, made with `text` at first start.

    Two processes that start together agree on whichever came first.
    """
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
        temporary.unlink()
    return path.read_text()


def folder_secret(data_dir: Path) -> bytes:
    """What everything that this data folder signs or seals is derived from."""
    return created_once(data_dir / "secret.key", secrets.token_hex(_SECRET_BYTES)).encode()
