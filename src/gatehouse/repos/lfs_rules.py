"""Which files are stored as large files, and what `.gitattributes` says about it."""

from dataclasses import dataclass

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

_ENDINGS = """
7z arrow avro bin bz2 ckpt ftz gguf gz h5 joblib lz4 mlmodel model msgpack npy npz onnx onnx_data
ot parquet pb pickle pkl pt pth rar safetensors tar tar.* tflite tgz wasm xz zip zst
flac mp3 mp4 ogg wav webm
"""
_ATTRIBUTES = "filter=lfs diff=lfs merge=lfs -text"
_SPACE = "[[:space:]]"  # how git-lfs writes a blank, which would end the pattern
_MAX_LINES = 10_000

DEFAULT_GITATTRIBUTES = "".join(f"*.{ending} {_ATTRIBUTES}\n" for ending in _ENDINGS.split())


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: GitIgnoreSpecPattern
    is_lfs: bool


class LfsRules:
    """The `filter` attribute of one `.gitattributes` file; the last matching line wins.

    See gitattributes(5).
    """

    def __init__(self, text: str) -> None:
        self._rules = [rule for line in text.splitlines()[:_MAX_LINES] if (rule := _parse(line))]

    def is_lfs(self, path: str) -> bool:
        for rule in reversed(self._rules):
            if rule.pattern.match_file(path) is not None:
                return rule.is_lfs
        return False


def line_for(path: str) -> str:
    """The `.gitattributes` line that makes git treat exactly this path as a large file."""
    escaped = "".join(f"\\{char}" if char in "*?[\\" else char for char in path)
    return f"/{escaped.replace(' ', _SPACE)} {_ATTRIBUTES}\n"


def _parse(line: str) -> _Rule | None:
    line = line.strip()
    if not line or line.startswith(("#", "[attr]")):
        return None
    pattern, attributes = _split(line)
    filters = [word for word in attributes if word.lstrip("-!").split("=")[0] == "filter"]
    if not filters or not pattern or pattern.startswith("!"):
        return None
    try:
        compiled = GitIgnoreSpecPattern(pattern)
    except ValueError:
        return None
    return _Rule(compiled, filters[-1] == "filter=lfs") if compiled.regex is not None else None


def _split(line: str) -> tuple[str, list[str]]:
    pattern, *attributes = line.split()
    return pattern.strip('"').replace(_SPACE, " "), attributes
