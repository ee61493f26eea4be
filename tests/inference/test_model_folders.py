"""Folders for hosts: links to what is allowed, refusals for what is not."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gatehouse.inference.errors import ModelNotServable
from gatehouse.inference.lifecycle.model_folders import ModelFile, ModelFolders


@pytest.fixture
def folders(tmp_path: Path) -> ModelFolders:
    return ModelFolders(tmp_path / "views")


def regular(path: str, content: bytes = b"{}") -> ModelFile:
    return ModelFile(path, str(hash(content)), len(content), None, lambda: content)


def large(path: str, blob: Path, content: bytes = b"weights") -> ModelFile:
    blob.write_bytes(content)

    def read() -> bytes:
        raise AssertionError("a large file is linked, never read")

    return ModelFile(path, str(hash(content)), len(content), blob, read)


def index(*names: object) -> ModelFile:
    weight_map = {f"layer.{number}": name for number, name in enumerate(names)}
    content = json.dumps({"weight_map": weight_map}).encode()
    return regular("model.safetensors.index.json", content)


def test_large_files_are_links_and_small_ones_copies(folders: ModelFolders, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    files = [regular("config.json", b'{"a": 1}'), large("model.safetensors", blob)]
    folder = folders.make("r1", files)
    assert folder.weight_bytes == 7
    assert (folder.path / "config.json").read_bytes() == b'{"a": 1}'
    assert (folder.path / "model.safetensors").readlink() == blob
    assert folders.make("r1", files) == folder


def test_modules_of_sentence_models_get_in(folders: ModelFolders, tmp_path: Path) -> None:
    dense = large("2_Dense/model.safetensors", tmp_path / "dense")
    names = ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"]
    others = ["1_Pooling/evil.py", "x_Pooling/config.json", "1_Other/config.json", "1_Dense/a.bin"]
    files = [regular(name) for name in [*names, *others]]
    files += [dense, large("model.safetensors", tmp_path / "b")]
    folder = folders.make("r1", files)
    found = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*.*")}
    assert found == {*names, "2_Dense/model.safetensors", "model.safetensors"}
    assert (folder.path / "2_Dense/model.safetensors").readlink() == tmp_path / "dense"
    (tmp_path / "dense").unlink()
    moved = large("2_Dense/model.safetensors", tmp_path / "moved")
    folder = folders.make("r1", [*files[:-2], moved, files[-1]])
    assert (folder.path / "2_Dense/model.safetensors").readlink() == tmp_path / "moved"


def test_only_listed_names_get_in(folders: ModelFolders, tmp_path: Path) -> None:
    names = [
        "modeling_evil.py",
        "pytorch_model.bin",
        "adapter_config.json",
        "custom_generate/generate.py",
        "sub/config.json",
        "tokenizer.json",
        "kernels.json",
    ]
    files = [regular(name) for name in names] + [large("model.safetensors", tmp_path / "b")]
    folder = folders.make("r1", files)
    assert {path.name for path in folder.path.iterdir()} == {"tokenizer.json", "model.safetensors"}


def test_pickles_are_refused_with_the_cure(folders: ModelFolders) -> None:
    with pytest.raises(
        ModelNotServable, match=r"`pytorch_model\.bin`.*Convert them to safetensors"
    ):
        folders.make("r1", [regular("config.json"), regular("pytorch_model.bin")])
    with pytest.raises(ModelNotServable, match=r"no `model\.safetensors`"):
        folders.make("r1", [regular("config.json")])


def test_shards_are_those_of_the_index(folders: ModelFolders, tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    files = [large(name, tmp_path / name) for name in names]
    folder = folders.make("r1", [index(*names, names[0]), *files])
    assert folder.weight_bytes == 14
    assert sorted(path.name for path in folder.path.iterdir()) == [
        *names,
        "model.safetensors.index.json",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "pytorch_model-00001-of-00002.bin",
        "model-1-of-2.safetensors",
        "/model.safetensors",
        3,
        None,
        "model-00009-of-00009.safetensors",
    ],
)
def test_index_that_names_anything_else_is_refused(folders: ModelFolders, name: object) -> None:
    with pytest.raises(ModelNotServable):
        folders.make("r1", [index(name)])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"weight_map": 3}', b'{"weight_map": {}}', b"[" * 9999]
)
def test_broken_index_is_refused(folders: ModelFolders, content: bytes) -> None:
    with pytest.raises(ModelNotServable):
        folders.make("r1", [regular("model.safetensors.index.json", content)])


def test_folder_whose_blob_went_is_made_again(folders: ModelFolders, tmp_path: Path) -> None:
    old = tmp_path / "old"
    folder = folders.make("r1", [large("model.safetensors", old)])
    old.unlink()
    folders.make("r1", [large("model.safetensors", tmp_path / "new")])
    assert (folder.path / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in folder.path.parent.iterdir()] == [folder.digest]
    folders.remove("r1")
    assert not folder.path.parent.exists()


def test_a_file_that_cannot_be_read_leaves_nothing(folders: ModelFolders, tmp_path: Path) -> None:
    def fail() -> bytes:
        raise OSError

    broken = ModelFile("config.json", "a", 2, None, fail)
    with pytest.raises(OSError):  # noqa: PT011 - the store's own error, passed on
        folders.make("r1", [broken, large("model.safetensors", tmp_path / "b")])
    assert list((tmp_path / "views" / "r1").iterdir()) == []


def test_folder_says_what_its_key_value_cache_may_take(
    folders: ModelFolders, tmp_path: Path
) -> None:
    config = b'{"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128}'
    files = [regular("config.json", config), large("model.safetensors", tmp_path / "b")]
    assert folders.make("r1", files).cache_bytes == 32 * 128 * 2 * 2 * 64 * 2
    broken = [regular("config.json", b"{"), large("model.safetensors", tmp_path / "b")]
    assert folders.make("r2", broken).cache_bytes == 0


def test_only_the_newest_commits_of_a_repository_stay(
    folders: ModelFolders, tmp_path: Path
) -> None:
    weights = large("model.safetensors", tmp_path / "b")

    def make(number: int) -> Path:
        return folders.make("r1", [regular("config.json", b"%d" % number), weights]).path

    made = [make(number) for number in range(40)]
    assert not made[0].exists()
    assert all(path.exists() for path in made[-32:])
    assert make(0).exists()


def test_files_that_no_host_reads_change_nothing(folders: ModelFolders, tmp_path: Path) -> None:
    files = [regular("config.json"), large("model.safetensors", tmp_path / "b")]
    first = folders.make("r1", [*files, regular("README.md", b"# Old")])
    assert folders.make("r1", [regular("README.md", b"# New"), *reversed(files)]) == first
    for changed in (
        [regular("config.json", b'{"a": 1}'), files[1]],
        [files[0], large("model.safetensors", tmp_path / "b", b"others")],
        [*files, regular("tokenizer.json")],
    ):
        assert folders.make("r1", changed).digest != first.digest


def test_many_who_make_the_same_folder_at_once_get_one_that_stays(tmp_path: Path) -> None:
    weights = large("model.safetensors", tmp_path / "blob")
    # Two workers, with four threads each.
    workers = [ModelFolders(tmp_path / "views") for _ in range(2)]
    for number in range(30):
        start = threading.Barrier(8)

        files = [regular("config.json", b"%d" % number), weights]

        def make(worker: ModelFolders) -> tuple[Path, int]:
            start.wait()  # noqa: B023 - it runs before the next one is made
            path = worker.make("r1", files).path  # noqa: B023
            return path, path.stat().st_ino

        with ThreadPoolExecutor(8) as threads:
            ((path, inode),) = set(threads.map(make, workers * 4))
        assert path.stat().st_ino == inode
    assert not list((tmp_path / "views" / "r1").glob(".*"))
