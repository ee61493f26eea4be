"""An endless seeded stream of small Python functions, each of one idea about one kind of thing.

A function's name says what it does, and its body follows from that, so that a gap in it can be
filled by somebody who reads the rest. Pairs of idea and thing are held out of training.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Final

_HELD_OUT_SHARE: Final = 10
_PLURALS: Final = {"box": "boxes", "city": "cities", "story": "stories"}


@dataclass(frozen=True, slots=True)
class Function:
    """One function's source, which ends with a newline.

    Attributes:
        idea: The name of the pattern that it follows.
        thing: The noun that it is about, in the singular.
    """

    source: str
    idea: str
    thing: str


def _read_ideas() -> dict[str, str]:
    """Patterns by name; `ITEM` and `ITEMS` stand for the thing, `NUM` for a number."""
    text = (resources.files("gatehouse.training.infilling") / "ideas.txt").read_text("utf-8")
    sections = (section.partition("\n") for section in text.split("### ")[1:])
    return {name.strip(): source.strip() + "\n" for name, _, source in sections}


IDEAS: Final = _read_ideas()
_NOUNS: Final = """
price score name word line value point user order item file path token node edge row column cell key
letter record event message page book song color shape city story box weight height length width
speed age year month day hour minute step level rank grade mark vote ball card coin stone tree leaf
flower bird fish horse dog cat ticket report query reply image sound model layer batch sample label
answer question chapter verse window button field table chair
"""
THINGS: Final = tuple(_NOUNS.split())


def plural(thing: str) -> str:
    return _PLURALS.get(thing, f"{thing}s")


def is_held_out(idea: str, thing: str) -> bool:
    """Whether this pair is kept away from training."""
    digest = hashlib.sha256(f"{idea} {thing}".encode()).digest()
    return digest[0] % _HELD_OUT_SHARE == 0


def draw_function(rng: random.Random, *, held_out: bool = False) -> Function:
    """A function of a pair that is, or is not, held out of training."""
    while True:
        idea, thing = rng.choice(list(IDEAS)), rng.choice(THINGS)
        if is_held_out(idea, thing) == held_out:
            return Function(_write(rng, IDEAS[idea], thing), idea, thing)


def training_functions(seed: int) -> Iterator[Function]:
    rng = random.Random(seed)  # noqa: S311 - a corpus, not a secret
    while True:
        yield draw_function(rng)


def _write(rng: random.Random, pattern: str, thing: str) -> str:
    source = pattern.replace("ITEMS", plural(thing)).replace("ITEM", thing)
    source = source.replace("NUM", str(rng.randint(2, 20)))
    if rng.random() < 0.3:
        source = "".join(line for line in source.splitlines(keepends=True) if '"""' not in line)
    return source
