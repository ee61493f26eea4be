"""Attributes and ignore rules are read as git itself reads them, and never take long."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatehouse.repos.ignore_rules import IgnoreRules
from gatehouse.repos.lfs_rules import DEFAULT_GITATTRIBUTES, LfsRules, line_for
from gatehouse.storage.git.errors import InvalidPath
from gatehouse.storage.git.paths import check_path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "HOME": os.devnull,
}
_quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_names = st.text("ab.-é *?[", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_pieces = st.sampled_from(
    [
        *("a", "b", ".", "-", "é", "/", "*", "**", "?", "**/", "/**", "/**/", "\\a", "\\*", "\\?"),
        *("[ab]", "[!a]", "[^b]", "[a-b]", "[]a]", "[a", "[[:alpha:]]", "[[:space:]]", "[[:no:]]"),
        *("[\\]a]", "[a-]", "[-a]", "[a\\-b]", "[[:a]", "[/]", "\\"),
    ]
)
_patterns = st.lists(_pieces, min_size=1, max_size=6).map("".join)
_words = st.sampled_from(
    ["filter=lfs", "-filter", "!filter", "filter", "filter=other", "text", "m", "-m", "!m", "x=="]
)
_lines = st.one_of(
    st.tuples(_patterns, st.lists(_words, min_size=1, max_size=3)).map(
        lambda pair: " ".join([pair[0], *pair[1]])
    ),
    st.tuples(_patterns, _words).map(lambda pair: f'"{pair[0]}"\t{pair[1]}\r'),
    st.sampled_from(
        ["# a filter=lfs", "", "[attr]m filter=lfs", "[attr]m -filter text", "!a filter=lfs", "a"]
    ),
    st.text("ab*\"\\/ \t=[]!-#filterlfs", max_size=20),
)  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    _git(folder, "init", "-q")
    return folder


def _git(
    folder: Path, *arguments: str, stdin: bytes = b"", allowed: tuple[int, ...] = (0,)
) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        input=stdin,
        capture_output=True,
        env=_ENVIRONMENT,
        check=False,
    )
    assert done.returncode in allowed, done.stderr
    return done.stdout


def lfs_by_git(checkout: Path, text: bytes, paths: Sequence[str]) -> list[bool]:
    (checkout / ".gitattributes").write_bytes(text)
    stdin = b"".join(path.encode() + b"\0" for path in paths)
    fields = _git(checkout, "check-attr", "-z", "--stdin", "filter", stdin=stdin).split(b"\0")
    return [value == b"lfs" for value in fields[2::3]]


def ignored_by_git(checkout: Path, text: bytes, paths: Sequence[str]) -> set[str]:
    (checkout / ".gitignore").write_bytes(text)
    stdin = b"".join(path.encode() + b"\0" for path in paths)
    arguments = ("check-ignore", "-z", "--stdin", "--no-index")
    found = _git(checkout, *arguments, stdin=stdin, allowed=(0, 1))
    return {path.decode() for path in found.split(b"\0") if path}


@_quick
@given(st.lists(_lines, min_size=1, max_size=5), st.lists(_paths, min_size=1, max_size=20))
def test_attributes_mean_what_git_says(checkout: Path, lines: list[str], paths: list[str]) -> None:
    text = "\n".join(lines).encode()
    rules = LfsRules(text)
    assert [rules.is_lfs(path) for path in paths] == lfs_by_git(checkout, text, paths)


@_quick
@given(_patterns, st.lists(_paths, min_size=1, max_size=40))
def test_a_pattern_matches_what_git_says(checkout: Path, pattern: str, paths: list[str]) -> None:
    text = f"{pattern} filter=lfs\n".encode()
    rules = LfsRules(text)
    assert [rules.is_lfs(path) for path in paths] == lfs_by_git(checkout, text, paths)


@_quick
@given(
    st.lists(st.one_of(_patterns, _patterns.map("!{}".format), _patterns.map("{} ".format)),
             min_size=1, max_size=4),
    st.lists(_paths, min_size=1, max_size=20),
)  # fmt: skip
def test_ignore_rules_mean_what_git_says(
    checkout: Path, lines: list[str], paths: list[str]
) -> None:
    text = "\n".join(lines)
    rules = IgnoreRules(text)
    ours = {path for path in paths if rules.is_ignored(path)}
    assert ours == ignored_by_git(checkout, text.encode(), paths)


@_quick
@given(st.text(min_size=1, max_size=30), st.lists(_paths, max_size=10))
def test_the_line_for_a_path_is_for_this_path_alone(
    checkout: Path, path: str, others: list[str]
) -> None:
    try:
        check_path(path)
    except InvalidPath:
        return
    text = line_for(path).encode()
    paths = [path, f"x/{path}", f"{path}x", f"x{path}", *others]
    expected = [each == path for each in paths]
    assert lfs_by_git(checkout, text, paths) == expected
    assert [LfsRules(text).is_lfs(each) for each in paths] == expected


def test_the_line_for_a_path_survives_every_odd_character(checkout: Path) -> None:
    paths = ["a b", 'a"b', "#a", "!a", "a#", "a*b", "a?b", "[ab]", "[attr]m", "é 文", "a\tb", "~"]
    for path in paths:
        text = line_for(path).encode()
        assert lfs_by_git(checkout, text, paths) == [other == path for other in paths]


def test_the_default_attributes_mean_what_git_says(checkout: Path) -> None:
    paths = ["a.safetensors", "b/c.bin", "a.tar.gz", "a.txt", "bin", "x.onnx_data", "a.tar.x/y"]
    text = DEFAULT_GITATTRIBUTES.encode()
    rules = LfsRules(text)
    assert [rules.is_lfs(path) for path in paths] == lfs_by_git(checkout, text, paths)


@given(st.binary(max_size=300), st.text(max_size=50))
def test_any_bytes_are_rules(text: bytes, path: str) -> None:
    LfsRules(text).is_lfs(path)
    IgnoreRules(text.decode("latin-1")).is_ignored(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 250),
        ("/" + "*a" * 40 + "b", "a" * 250),
        ("**/a/" * 30 + "b", "a/" * 60 + "a"),
        ("**/*a*a*a/" * 30 + "b", "aaaaaa/" * 60 + "a"),
        ("*" * 2000 + "b", "a" * 250),
        ("/**" * 300 + "/b", "a/" * 60 + "a"),
        ("*?" * 100 + "b", "a" * 250),
        ("[a-z]*" * 100 + "B", "a" * 250),
    ],
)
def test_no_pattern_takes_long(pattern: str, path: str) -> None:
    """Whoever may write to one repository must not be able to stop the server."""
    began = time.process_time()
    assert not LfsRules(f"{pattern} filter=lfs".encode()).is_lfs(path)
    IgnoreRules(pattern).is_ignored(path)
    assert time.process_time() - began < 1.0
