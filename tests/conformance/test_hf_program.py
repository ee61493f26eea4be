"""The `hf` program: folders up and down, and who one is. Signing in is in test_sign_in.py."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

from conformance_files import digests
from hub_server import Person
from stock_client import StockClient

NewClient = Callable[..., StockClient]
_HF = Path(sys.executable).with_name("hf")


def test_a_folder_is_uploaded_and_downloaded_by_the_program(
    alice: Person, owner: StockClient, nobody: StockClient, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "small.txt").write_text("small")
    (folder / "weights.bin").write_bytes(random.Random(5).randbytes(4_000_000))
    assert "alice" in owner.check(_HF, "auth", "whoami")
    owner.check(_HF, "repos", "create", "alice/by-program")
    owner.check(_HF, "upload", "alice/by-program", folder, ".")
    nobody.check(_HF, "download", "alice/by-program", "--local-dir", tmp_path / "down")
    expected = digests(folder)
    found = digests(tmp_path / "down")
    assert found.pop(".gitattributes")
    assert found == expected

    owner.check(_HF, "upload", "alice/by-program", folder / "weights.bin", "second.bin")
    target = tmp_path / "one file"
    nobody.check(_HF, "download", "alice/by-program", "second.bin", "--local-dir", target)
    assert (target / "second.bin").read_bytes() == (folder / "weights.bin").read_bytes()
    owner.check(_HF, "repos", "delete", "alice/by-program", "--yes")
    assert nobody.run(_HF, "download", "alice/by-program").returncode != 0
