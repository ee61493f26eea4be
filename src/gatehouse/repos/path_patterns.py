"""Git's path patterns, of gitattributes(5) and gitignore(5), as git's wildmatch.c reads them.

Patterns come from strangers, so none may take long: between two stars the leftmost match is good
enough, and the regular expressions made here never try another one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_ALL = frozenset(range(256)) - {ord("/")}
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset(b"0123456789")
_PRINTED = frozenset(range(0x21, 0x7F))
_CLASSES = {
    b"alnum": _LETTERS | _DIGITS,
    b"alpha": _LETTERS,
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset(range(0x20)) | {0x7F},
    b"digit": _DIGITS,
    b"graph": _PRINTED,
    b"lower": frozenset(b"abcdefghijklmnopqrstuvwxyz"),
    b"print": _PRINTED | {0x20},
    b"punct": _PRINTED - _LETTERS - _DIGITS,
    b"space": frozenset(b" \t\n\r"),
    b"upper": frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    b"xdigit": frozenset(b"0123456789abcdefABCDEF"),
}
_SPECIAL = re.compile(rb"[*?\[\\]")


class _Wild(Enum):
    r"""What stands for more than one byte.

    `DIRECTORIES` is `**/`, any number of folders; `SOME_DIRECTORIES` is git's reading of `**\/`,
    at least one; `REST` is a `**` at the end.
    """

    STAR = rb"[^/]*"
    DIRECTORIES = rb"(?:[^/]*/)*?"
    SOME_DIRECTORIES = rb"(?:[^/]*/)+?"
    REST = rb"(?s:.*)"


# A byte is the set of those that match it; a slash is only ever itself.
_Token = frozenset[int] | _Wild
_SLASH = frozenset(b"/")


class _NeverMatches(Exception):
    """The pattern is malformed; git lets such a one match nothing."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """One pattern.

    Attributes:
        is_name: It is held against the last part of a path, for it has no slash.
        literal: The only name or path it matches, if there is only one.
        only_folders: It ends in a slash.
    """

    is_name: bool
    literal: bytes | None
    only_folders: bool
    _regex: re.Pattern[bytes] | None

    @classmethod
    def compile(cls, pattern: bytes) -> "PathPattern":
        only_folders = pattern.endswith(b"/")
        pattern = pattern[:-1] if only_folders else pattern
        is_name = b"/" not in pattern
        try:
            tokens = list(_tokens(pattern.removeprefix(b"/"), is_name=is_name))
        except _NeverMatches:
            return cls(is_name, None, only_folders, None)
        literal = _literal(tokens)
        regex = re.compile(_expression(tokens)) if literal is None else None
        return cls(is_name, literal, only_folders, regex)

    def matches(self, path: bytes) -> bool:
        subject = path.rpartition(b"/")[2] if self.is_name else path
        if self.literal is not None:
            return subject == self.literal
        return self._regex is not None and self._regex.fullmatch(subject) is not None


def _tokens(pattern: bytes, *, is_name: bool) -> Iterator[_Token]:
    special = _SPECIAL.search(pattern)
    # Git compares what is before the first special character on its own, and sees a pattern begin
    # behind it: `a**/b` has its two stars at a beginning.
    beginning = special.start() if special else len(pattern)
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            end = at + len(pattern[at:]) - len(pattern[at:].lstrip(b"*"))
            is_bordered = at == beginning or pattern[at - 1 : at] == b"/"
            token, at = _stars(pattern, end, end - at > 1 and is_bordered and not is_name)
            yield token
        elif char == b"[":
            matched, at = _bracket(pattern, at)
            yield matched
        elif char == b"?":
            yield _ALL
            at += 1
        elif char == b"\\":
            if at + 1 == len(pattern):
                raise _NeverMatches
            yield frozenset(pattern[at + 1 : at + 2])
            at += 2
        else:
            yield frozenset(char)
            at += 1


def _stars(pattern: bytes, end: int, is_double: bool) -> tuple[_Token, int]:
    """What the stars before `end` mean, and where to go on."""
    if is_double and end == len(pattern):
        return _Wild.REST, end
    if is_double and pattern.startswith(b"/", end):
        return _Wild.DIRECTORIES, end + 1
    if is_double and pattern.startswith(b"\\/", end):
        return _Wild.SOME_DIRECTORIES, end + 2
    return _Wild.STAR, end


def _bracket(pattern: bytes, start: int) -> tuple[frozenset[int], int]:
    """The bytes that a `[…]` matches, and where it ends."""
    at = start + 1
    is_negated = pattern[at : at + 1] in (b"!", b"^")
    at += is_negated
    found: set[int] = set()
    previous: int | None = None
    is_first = True
    while is_first or pattern[at : at + 1] != b"]":
        is_first = False
        char = _at(pattern, at)
        following = pattern[at + 1 : at + 2]
        if char == ord("\\"):
            at += 1
            previous = _at(pattern, at)
            found.add(previous)
        elif char == ord("-") and previous is not None and following not in (b"", b"]"):
            at += 2 if following == b"\\" else 1
            found.update(range(previous, _at(pattern, at) + 1))
            previous = None
        elif char == ord("[") and following == b":":
            name, at = _class_name(pattern, at)
            found |= {char} if name is None else _class(name)
            previous = char if name is None else None
        else:
            previous = char
            found.add(char)
        at += 1
    matched = (_ALL - found) if is_negated else (found & _ALL)
    if not matched:
        raise _NeverMatches
    return frozenset(matched), at + 1


def _class_name(pattern: bytes, start: int) -> tuple[bytes | None, int]:
    """The name in `[:name:]` and its last position; None when the colon does not come back."""
    end = pattern.find(b"]", start + 2)
    if end < 0:
        raise _NeverMatches
    if end - 1 < start + 2 or pattern[end - 1 : end] != b":":
        return None, start
    return pattern[start + 2 : end - 1], end


def _class(name: bytes) -> frozenset[int]:
    if name not in _CLASSES:
        raise _NeverMatches
    return _CLASSES[name]


def _at(pattern: bytes, position: int) -> int:
    if position >= len(pattern):
        raise _NeverMatches
    return pattern[position]


def _literal(tokens: list[_Token]) -> bytes | None:
    if any(isinstance(token, _Wild) or len(token) != 1 for token in tokens):
        return None
    return bytes(next(iter(token)) for token in tokens if not isinstance(token, _Wild))


def _expression(tokens: list[_Token]) -> bytes:
    """A regular expression for the whole subject."""
    runs: list[list[_Token]] = [[]]
    for token in tokens:
        if token in (_Wild.DIRECTORIES, _Wild.SOME_DIRECTORIES):
            runs.append([])
        runs[-1].append(token)
    first, *others = runs
    parts = [_run(first)]
    for number, run in enumerate(others, start=1):
        # Later folders can make up for what is matched early, so no other place is worth a try.
        is_last = number == len(others)
        parts.append(_run(run) if is_last else b"(?>" + _run(run) + b")")
    return b"".join(parts)


def _run(tokens: list[_Token]) -> bytes:
    """Folders and names up to the next `**/`; the stars of each name are the interesting part."""
    expression = b""
    segment: list[_Token] = []
    for token in tokens:
        if token == _SLASH or (isinstance(token, _Wild) and token is not _Wild.STAR):
            expression += _segment(segment)
            expression += token.value if isinstance(token, _Wild) else b"/"
            segment = []
        else:
            segment.append(token)
    return expression + _segment(segment)


def _segment(tokens: list[_Token]) -> bytes:
    chunks = [b""]
    for token in tokens:
        if isinstance(token, _Wild):
            chunks.append(b"")
        else:
            chunks[-1] += _one_of(token)
    if len(chunks) == 1:
        return chunks[0]
    first, *middle, last = chunks
    middles = b"".join(b"(?>[^/]*?" + chunk + b")" for chunk in middle if chunk)
    return first + middles + _Wild.STAR.value + last


def _one_of(matched: frozenset[int]) -> bytes:
    if matched == _ALL:
        return b"[^/]"
    escaped = b"".join(b"\\x%02x" % value for value in sorted(matched))
    return escaped if len(matched) == 1 else b"[" + escaped + b"]"
