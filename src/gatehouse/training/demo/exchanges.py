"""Every family of question with its weight, and which compositions are held out of training."""

import random
import zlib
from collections.abc import Callable
from typing import Final

from gatehouse.training.demo import facts, questions
from gatehouse.training.demo.grammar import Writer
from gatehouse.training.demo.questions import Exchange
from gatehouse.training.demo.sections import question_and_answers, read_sections
from gatehouse.training.demo.stories import invented_name
from gatehouse.training.demo.words import WORDS

_HELD_OUT_SHARE: Final = 12
_ASKED: Final = {
    title: question_and_answers(lines) for title, lines in read_sections("talk").items()
}
_GATEHOUSE: Final = [each for title, each in _ASKED.items() if title.startswith("gatehouse ")]
_SMALL_TALK: Final = [each for title, each in _ASKED.items() if title.startswith("small talk ")]


def is_held_out(key: str | None) -> bool:
    """Whether the composition `key` is kept away from training: one in twelve, by checksum."""
    return key is not None and zlib.crc32(key.encode()) % _HELD_OUT_SHARE == 0


def _gatehouse(rng: random.Random) -> Exchange:
    asked, answers = rng.choice(_GATEHOUSE)
    return Exchange(rng.choice(asked), rng.choice(answers))


def _small_talk(rng: random.Random) -> Exchange:
    asked, answers = rng.choice(_SMALL_TALK)
    return Exchange(rng.choice(asked), rng.choice(answers))


def _unknown(rng: random.Random) -> Exchange:
    name = invented_name(rng)
    writer = Writer(rng, {**WORDS, "unknown_name": (name,)})
    slots = {
        "thing": writer.pick("thing"),
        "food": writer.pick("food"),
        "country": rng.choice(list(facts.CAPITALS)),
    }
    templates, refusals = _ASKED["unknown"]
    return Exchange(writer.write(rng.choice(templates), slots), rng.choice(refusals))


Family = Callable[[random.Random], Exchange]

FAMILIES: Final[dict[str, tuple[Family, float]]] = {
    "capital": (questions.capital, 5.0),
    "country": (questions.country, 2.0),
    "opposite": (questions.opposite, 2.5),
    "colour": (questions.colour, 1.5),
    "animal": (questions.animal, 4.0),
    "bigger": (questions.bigger, 1.5),
    "sum": (questions.arithmetic, 3.0),
    "calendar": (questions.calendar, 1.5),
    "thing": (questions.thing, 2.0),
    "group": (questions.group, 2.0),
    "plain": (questions.plain, 1.5),
    "gatehouse": (_gatehouse, 3.0),
    "small_talk": (_small_talk, 1.5),
    "count": (questions.count, 0.5),
    "unknown": (_unknown, 1.5),
}


def draw_exchange(
    rng: random.Random, family: str | None = None, *, held_out: bool = False
) -> Exchange:
    """One exchange of `family`, or of any; never a held-out composition, or only those.

    Raises:
        ValueError: Held-out compositions of a family that keeps none.
    """
    if held_out and family not in {"capital", "opposite", "colour", "bigger", "sum", "group"}:
        raise ValueError(f"`{family}` holds nothing out.")
    names = list(FAMILIES)
    while True:
        name = family or rng.choices(names, [weight for _, weight in FAMILIES.values()])[0]
        exchange = FAMILIES[name][0](rng)
        if is_held_out(exchange.key) == held_out:
            return exchange
