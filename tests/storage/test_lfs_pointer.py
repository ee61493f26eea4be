import hashlib
import subprocess
from pathlib import Path

import pytest

from gatehouse.storage.lfs.pointer import POINTER_SIZE_LIMIT, Pointer, parse_pointer

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
TEXT = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n".encode()
EXTENSION = b"ext-0-foo sha256:" + b"a" * 64 + b"\n"


def test_the_example_of_the_specification_is_read_and_written() -> None:
    assert parse_pointer(TEXT) == Pointer(OID, 12345)
    assert Pointer(OID, 12345).to_bytes() == TEXT


def test_extension_lines_are_skipped() -> None:
    text = TEXT.replace(b"oid ", EXTENSION + EXTENSION.replace(b"0-foo", b"1-bar") + b"oid ")
    assert parse_pointer(text) == Pointer(OID, 12345)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        TEXT[:-1],
        TEXT + b"\n",
        TEXT.replace(b"\n", b"\r\n"),
        TEXT.replace(b"size 12345", b"size 012345"),
        TEXT.replace(b"size 12345", b"size -1"),
        TEXT.replace(b"size 12345", b"size 9223372036854775808"),
        TEXT.replace(b"size 12345", "size \u0661".encode()),
        TEXT.replace(OID.encode(), OID.upper().encode()),
        TEXT.replace(OID.encode(), OID[:-1].encode()),
        TEXT.replace(b"sha256:", b"sha1:"),
        TEXT.replace(b"spec/v1", b"spec/v2"),
        TEXT.replace(b"size", b"colour red\nsize"),
        TEXT.replace(b"oid ", EXTENSION * 12 + b"oid "),
        b" " + TEXT,
    ],
)
def test_anything_else_is_not_a_pointer(text: bytes) -> None:
    assert parse_pointer(text) is None


def test_a_pointer_stays_below_the_limit() -> None:
    assert len(Pointer(OID, 2**63 - 1).to_bytes()) < POINTER_SIZE_LIMIT


def test_git_lfs_writes_the_same_pointer(tmp_path: Path) -> None:
    data = b"weights" * 1000
    (tmp_path / "model.bin").write_bytes(data)
    command = ["git", "lfs", "pointer", "--file=model.bin"]
    written = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    ours = Pointer(hashlib.sha256(data).hexdigest(), len(data))
    assert written == ours.to_bytes()
    assert parse_pointer(written) == ours
