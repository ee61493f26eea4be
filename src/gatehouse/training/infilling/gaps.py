"""Cuts a gap into a program's text. Knows lines and words; nothing of tokens or models."""

import random
import re
from dataclasses import dataclass
from typing import Final

_LEXEMES: Final = re.compile(r"[A-Za-z_]+|\d+|[ ]+|\n|.")
_MAX_WORDS: Final = 6
_MAX_LEXEMES: Final = 24


@dataclass(frozen=True, slots=True)
class Gap:
    """A text in three parts; `middle` is never empty."""

    prefix: str
    middle: str
    suffix: str


def cut_gap(rng: random.Random, source: str) -> Gap:
    """A gap of whole lines, of a few words within a line, or of anything between them."""
    share = rng.random()
    if share < 0.35:
        return _lines(rng, source)
    if share < 0.75:
        return _span(rng, source, _MAX_WORDS)
    return _span(rng, source, _MAX_LEXEMES)


def _lines(rng: random.Random, source: str) -> Gap:
    """One to three lines below the first."""
    lines = source.splitlines(keepends=True)
    start = rng.randrange(1, len(lines))
    stop = min(len(lines), start + rng.choice((1, 1, 2, 3)))
    return Gap("".join(lines[:start]), "".join(lines[start:stop]), "".join(lines[stop:]))


def _span(rng: random.Random, source: str, longest: int) -> Gap:
    lexemes = _LEXEMES.findall(source)
    start = rng.randrange(1, len(lexemes))
    stop = min(len(lexemes), start + rng.randint(1, longest))
    return Gap("".join(lexemes[:start]), "".join(lexemes[start:stop]), "".join(lexemes[stop:]))
