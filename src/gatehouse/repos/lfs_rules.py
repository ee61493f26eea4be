"""Which files are stored as large files, and what `.gitattributes` says about it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gatehouse.repos.path_patterns import PathPattern

_ENDINGS = """
7z arrow avro bin bz2 ckpt ftz gguf gz h5 joblib lz4 mlmodel model msgpack npy npz onnx onnx_data
ot parquet pb pickle pkl pt pth rar safetensors tar tar.* tflite tgz wasm xz zip zst
flac mp3 mp4 ogg wav webm
"""
_ATTRIBUTES = "filter=lfs diff=lfs merge=lfs -text"
_BLANK = b" \t\r\n"
_MACRO = b"[attr]"
_FILTER = b"filter"
# Git ignores longer lines.
_MAX_LINE_BYTES = 2048
# Each is tried for each path; patterns without wildcards are looked up and cost nothing.
_MAX_WILDCARDS = 1_000
_ATTRIBUTE = re.compile(rb"([-!]?)([._0-9A-Za-z][-._0-9A-Za-z]*)(?:=(.*))?", re.DOTALL)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\[abfnrtv"\\]|\\[0-3][0-7][0-7])*)"')
_ESCAPE = re.compile(rb"\\([abfnrtv\"\\]|[0-7]{3})")
_ESCAPES = dict(zip(b'abfnrtv"\\', b'\a\b\f\n\r\t\v"\\', strict=True))

DEFAULT_GITATTRIBUTES = "".join(f"*.{ending} {_ATTRIBUTES}\n" for ending in _ENDINGS.split())


@dataclass(frozen=True, slots=True)
class _Attribute:
    """`value` is what follows `=`, or how the name was written: set, `-` or `!`."""

    name: bytes
    value: bytes | None
    sign: bytes

    @property
    def is_set(self) -> bool:
        return self.value is None and not self.sign


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: a pattern, or the name of a macro, and what it says."""

    pattern: bytes
    attributes: tuple[_Attribute, ...]
    is_macro: bool


class LfsRules:
    """The `filter` attribute of one `.gitattributes` file at a repository's root.

    See gitattributes(5): the last line that matches and says something about it wins.
    """

    def __init__(self, text: bytes) -> None:
        lines = [line for raw in text.split(b"\n") if (line := _parse(raw)) is not None]
        self._macros = {line.pattern: line.attributes for line in lines if line.is_macro}
        speaking = {_FILTER, *self._macros}
        self._attributes: list[tuple[_Attribute, ...]] = []
        self._by_path: dict[bytes, list[int]] = {}
        self._by_name: dict[bytes, list[int]] = {}
        self._wildcards: list[tuple[int, PathPattern]] = []
        for line in lines:
            if not line.is_macro and speaking & {each.name for each in line.attributes}:
                self._add(PathPattern.compile(line.pattern), line.attributes)
        del self._wildcards[:-_MAX_WILDCARDS]

    def is_lfs(self, path: str) -> bool:
        encoded = path.encode("utf-8", "surrogatepass")
        found: dict[bytes, _Attribute] = {}
        for number in sorted(self._matching(encoded), reverse=True):
            self._fill(found, self._attributes[number])
            if _FILTER in found:
                break
        decided = found.get(_FILTER)
        return decided is not None and decided.value == b"lfs"

    def _add(self, pattern: PathPattern, attributes: tuple[_Attribute, ...]) -> None:
        if pattern.only_folders:  # attributes are of files
            return
        number = len(self._attributes)
        self._attributes.append(attributes)
        if pattern.literal is None:
            self._wildcards.append((number, pattern))
        else:
            known = self._by_name if pattern.is_name else self._by_path
            known.setdefault(pattern.literal, []).append(number)

    def _matching(self, path: bytes) -> Iterator[int]:
        yield from self._by_path.get(path, ())
        yield from self._by_name.get(path.rpartition(b"/")[2], ())
        yield from (number for number, pattern in self._wildcards if pattern.matches(path))

    def _fill(self, found: dict[bytes, _Attribute], attributes: tuple[_Attribute, ...]) -> None:
        """What is said later was read earlier, and stays."""
        for attribute in reversed(attributes):
            if attribute.name not in found:
                found[attribute.name] = attribute
                if attribute.is_set:
                    self._fill(found, self._macros.get(attribute.name, ()))


def line_for(path: str) -> str:
    """The `.gitattributes` line that makes git treat exactly this path as a large file."""
    pattern = "/" + "".join(f"\\{char}" if char in "*?[\\" else char for char in path)
    if any(char <= " " or char in '"\x7f' for char in pattern):
        pattern = '"' + "".join(map(_quoted, pattern)) + '"'
    return f"{pattern} {_ATTRIBUTES}\n"


def _quoted(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return f"\\{ord(char):03o}" if char < " " or char == "\x7f" else char


def _parse(raw: bytes) -> _Line | None:
    """Read one line as git's attr.c does: it ignores what it cannot read."""
    line = raw.lstrip(_BLANK)
    if not line or line.startswith(b"#") or len(raw) >= _MAX_LINE_BYTES:
        return None
    quoted = _QUOTED.match(line)
    if quoted:
        pattern, rest = _ESCAPE.sub(_unescape, quoted[1]), line[quoted.end() :]
    else:
        pattern = re.split(rb"[ \t\r\n]", line, maxsplit=1)[0]
        rest = line[len(pattern) :]
    is_macro = pattern.startswith(_MACRO) and len(pattern) > len(_MACRO)
    if is_macro:
        pattern = pattern.removeprefix(_MACRO)
    elif pattern.startswith(b"!"):
        return None
    words = [word for word in re.split(rb"[ \t\r\n]+", rest) if word]
    attributes = [_ATTRIBUTE.fullmatch(word) for word in words]
    if None in attributes:
        return None
    parsed = tuple(_Attribute(each[2], each[3], each[1]) for each in attributes if each is not None)
    return _Line(pattern, parsed, is_macro)


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    return bytes([_ESCAPES[escape[0]] if len(escape) == 1 else int(escape, 8)])
