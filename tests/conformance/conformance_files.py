"""The model that tests push, and what is in folders: hashes of files, health of git."""

import hashlib
import subprocess
from pathlib import Path

from hub_server import HubServer

_MODELS = Path(__file__).parents[2] / "src" / "gatehouse" / "server" / "demo_models"
DEMO_MODEL = _MODELS / "storyteller"
GAP_FILLER = _MODELS / "gap-filler"


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path; hidden caches of clients left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts and ".git" not in path.parts
    }


def assert_sound(server: HubServer) -> None:
    """`git fsck` has nothing to say about any repository of the server."""
    folders = list((server.data_dir / "git").rglob("*.git"))
    assert folders
    for folder in folders:
        outcome = subprocess.run(
            ["git", "fsck", "--full", "--strict", "--no-dangling"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (outcome.returncode, outcome.stdout.strip()) == (0, ""), outcome.stderr
