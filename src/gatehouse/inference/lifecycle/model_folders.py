"""The folder that a host loads a model from: links to blobs, and copies of small files.

Only names on a list are let in, so no code and no pickle ever reaches a host. Knows files and
bytes; who may run the model was decided before.
"""

import errno
import hashlib
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gatehouse.core.ids import is_oid
from gatehouse.inference.errors import ModelNotServable
from gatehouse.inference.lifecycle.cache_sizes import cache_bytes

_SMALL_FILES = frozenset(
    {
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "merges.txt",
        "modules.json",
        "sentence_bert_config.json",
        "sentencepiece.bpe.model",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)
# What sentence-transformers puts behind a model: each module has a folder, and few have weights.
_MODULE_FILES = re.compile(
    r"\d{1,2}_(?:Pooling|Dense|Normalize)/config\.json|\d{1,2}_Dense/model\.safetensors"
)
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_WEIGHTS = re.compile(r"model(?:-\d{5}-of-\d{5})?\.safetensors")
_PICKLES = re.compile(r".*\.(?:bin|pt|pth|ckpt|pkl|h5|msgpack)")
_MAX_INDEX_BYTES = 32 * 1024 * 1024
_MAX_CONFIG_BYTES = 1024 * 1024
# Anybody may ask for any commit of a repository; this many of its folders stay.
_MAX_FOLDERS = 32
_DIGEST_LENGTH = 40
_COPIES = "copies"
# Each time another worker put something broken there.
_TRIES = 5
_STORAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class ModelFile:
    """A file of a commit.

    Attributes:
        path: Within the repository.
        etag: Changes with its bytes.
        size: Bytes.
        local: Where its bytes lie, never to be written; None for files that live in git.
        read: Gives its bytes, for those.
    """

    path: str
    etag: str
    size: int
    local: Path | None
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that is complete.

    Attributes:
        digest: Of the files in it, by name and content.
        copies: Where a host may keep what it makes of the weights, for its repository alone.
        weight_bytes: Size of its weights on disk.
        cache_bytes: What its key-value cache may grow to.
    """

    path: Path
    digest: str
    copies: Path
    weight_bytes: int
    cache_bytes: int = 0


class ModelFolders:
    """`<root>/<storage id>/<digest>/`, made once and then left alone. A cache: may be deleted.

    Commits that differ in other files, such as the card, share a folder. Beside them, hosts keep
    what they make of the weights, and themselves remove the oldest of that.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._making = threading.Lock()

    def make(self, storage_id: str, files: Iterable[ModelFile]) -> ModelFolder:
        """The folder for the files of a commit, made if it is not there.

        Args:
            storage_id: The repository's internal id.
            files: Those of the commit; whatever is not on the list is ignored.

        Raises:
            ModelNotServable: There are no safetensors weights, or their index is not sound.
        """
        files = list(files)
        by_name = {file.path: file for file in files if "/" not in file.path}
        weights = _weights(by_name)
        wanted = [file for name, file in by_name.items() if name in _SMALL_FILES]
        wanted += [by_name[_INDEX]] if _INDEX in by_name else []
        wanted += [file for file in files if _MODULE_FILES.fullmatch(file.path)]
        wanted += weights
        folder, digest = self.put(storage_id, wanted)
        weight_bytes = sum(file.size for file in weights)
        copies = self._root / storage_id / _COPIES
        return ModelFolder(folder, digest, copies, weight_bytes, cache_bytes(_config(folder)))

    def put(self, storage_id: str, wanted: list[ModelFile]) -> tuple[Path, str]:
        """A folder with just these files, and its digest; made if it is not there.

        Raises:
            ModelNotServable: It could not be made.
        """
        assert _STORAGE_ID.fullmatch(storage_id)
        digest = _digest(wanted)
        folder = self._root / storage_id / digest
        if not _is_whole(folder):
            with self._making:
                if not _is_whole(folder):
                    _publish(folder, wanted)
                    _leave_newest(folder.parent)
        return folder, digest

    def remove(self, storage_id: str) -> None:
        """Forget a repository that is gone. Hosts that run it keep what they loaded."""
        assert _STORAGE_ID.fullmatch(storage_id)
        shutil.rmtree(self._root / storage_id, ignore_errors=True)


def _digest(files: list[ModelFile]) -> str:
    names = sorted((file.path, file.etag) for file in files)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:_DIGEST_LENGTH]


def _weights(files: dict[str, ModelFile]) -> list[ModelFile]:
    """The safetensors files that make up the model."""
    if "model.safetensors" in files:
        return [files["model.safetensors"]]
    if _INDEX in files:
        return _sharded_weights(files)
    if _ADAPTER in files:
        raise ModelNotServable(
            "The repository holds an adapter. Ask for its base model, and name this repository as "
            "`adapter_id`."
        )
    pickles = sorted(name for name in files if _PICKLES.fullmatch(name))
    if pickles:
        raise ModelNotServable(
            f"The weights are only there as `{pickles[0]}`, a format that can hold code and is "
            "never loaded. Convert them to safetensors: load the model with transformers and call "
            "`save_pretrained`."
        )
    raise ModelNotServable("The repository has no `model.safetensors`.")


def _sharded_weights(files: dict[str, ModelFile]) -> list[ModelFile]:
    index = files[_INDEX]
    if index.size > _MAX_INDEX_BYTES:
        raise ModelNotServable(f"`{_INDEX}` is larger than {_MAX_INDEX_BYTES} bytes.")
    try:
        names = set(json.loads(index.read())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelNotServable(f"`{_INDEX}` has no `weight_map` of file names.") from error
    for name in names:
        if not isinstance(name, str) or not _WEIGHTS.fullmatch(name):
            raise ModelNotServable(
                f"`{_INDEX}` names `{str(name)[:100]}`, which is no weight file."
            )
        if name not in files:
            raise ModelNotServable(f"`{_INDEX}` names `{name}`, which is not in the repository.")
    if not names:
        raise ModelNotServable(f"`{_INDEX}` names no files.")
    return [files[name] for name in sorted(names)]


def _config(folder: Path) -> object:
    """What `config.json` says; None if it is not there or not sound, which the host will say."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _leave_newest(parent: Path) -> None:
    """Remove the oldest folders of a repository. Hosts that run them keep what they loaded."""
    folders = [path for path in parent.iterdir() if is_oid(path.name)]
    for path in sorted(folders, key=lambda path: path.stat().st_mtime)[:-_MAX_FOLDERS]:
        shutil.rmtree(path, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Whether it is there and none of its links lost its blob."""
    return folder.is_dir() and all(path.exists() for path in folder.rglob("*"))


def _publish(folder: Path, files: list[ModelFile]) -> None:
    """Make the folder somewhere else and rename it: nobody sees half of one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        for file in files:
            target = temporary / file.path
            target.parent.mkdir(exist_ok=True)
            if file.local is not None:
                target.symlink_to(file.local.resolve())
            else:
                target.write_bytes(file.read())
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Give the folder its name, unless another worker was first; what is not whole goes."""
    for _ in range(_TRIES):
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if _is_whole(folder):
                return
            # Its name first: nobody must find it while it is removed.
            broken = temporary.with_name(f"{temporary.name}-broken")
            with suppress(FileNotFoundError):
                folder.rename(broken)
            shutil.rmtree(broken, ignore_errors=True)
        else:
            return
    raise ModelNotServable("The model's files could not be put together: please try again.")
