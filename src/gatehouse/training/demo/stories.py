"""Short stories, descriptions and first-person notes: the plain-text half of the demo corpus.

Every story follows one plot with fixed people, places and things: what is lost is what is found.
"""

import random
from dataclasses import dataclass
from typing import Final

from gatehouse.training.demo.grammar import Writer
from gatehouse.training.demo.sections import read_sections
from gatehouse.training.demo.words import ANIMAL_NAMES, BOYS, GIRLS, PLACES, SYLLABLES, WORDS

_TEMPLATES: Final = read_sections("stories")
PLOTS: Final = {
    title.removeprefix("plot "): lines
    for title, lines in _TEMPLATES.items()
    if title.startswith("plot ")
}
# Plots in which the two may know each other from the start.
_AMONG_FRIENDS: Final = frozenset({"storm", "gift", "garden", "race", "quarrel"})
# Not every story stops to describe the hero's life.
_LISTS: Final = {**WORDS, **_TEMPLATES, "setting": (*_TEMPLATES["setting"], "", "", "", "")}


@dataclass(frozen=True, slots=True)
class Character:
    """Somebody in a story.

    Attributes:
        kind: A job or an animal, without an article.
        pronouns: Subject, object, possessive, reflexive.
    """

    name: str
    kind: str
    adjective: str
    pronouns: tuple[str, str, str, str]
    animal: bool


def invented_name(rng: random.Random) -> str:
    """A name of two or three syllables that is most likely new to the reader."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()


def invent_character(rng: random.Random, *, animal: bool, kind: str | None = None) -> Character:
    """Draw a character; one in ten has an invented name, so that names get copied."""
    female = rng.random() < 0.5
    pronouns = ("she", "her", "her", "herself") if female else ("he", "him", "his", "himself")
    if rng.random() < 0.1:
        name = invented_name(rng)
    elif animal and rng.random() < 0.7:
        name = rng.choice(ANIMAL_NAMES)
    else:
        name = rng.choice(GIRLS if female else BOYS)
    kinds = WORDS["wild"] if animal else WORDS["job"]
    if female:
        kinds = tuple(each for each in kinds if not each.endswith("man"))
    adjectives = WORDS["animal_adj"] if animal else WORDS["person_adj"]
    return Character(name, kind or rng.choice(kinds), rng.choice(adjectives), pronouns, animal)


def _slots(hero: Character, friend: Character) -> dict[str, str]:
    slots: dict[str, str] = {}
    for prefix, person in (("", hero), ("f", friend)):
        he, him, his, himself = person.pronouns
        slots |= {
            f"{prefix}he": he,
            f"{prefix}him": him,
            f"{prefix}his": his,
            f"{prefix}himself": himself,
            f"{prefix}He": he.capitalize(),
            f"{prefix}His": his.capitalize(),
            f"{prefix}kind": person.kind,
            f"{prefix}adj": person.adjective,
        }
    return slots | {"hero": hero.name, "friend": friend.name}


def _scene(
    rng: random.Random, writer: Writer, hero: Character, friend: Character
) -> dict[str, str]:
    """Every slot a template may use, each drawn once, so that it stays the same to the end."""
    slots = _slots(hero, friend)
    for suffix, place in zip(("", "2", "3"), rng.sample(list(PLACES), 3), strict=True):
        slots[f"place{suffix}"] = place
        slots[f"at_place{suffix}"] = f"{PLACES[place]} the {place}"
    slots["thing"], slots["thing2"] = rng.sample(WORDS["thing"], 2)
    slots["food"], slots["food2"] = rng.sample(WORDS["food"], 2)
    drawn = ("crop", "craft", "skill", "fear", "home", "colour", "family", "wild")
    return slots | {name: writer.pick(name) for name in drawn}


def tell_story(
    rng: random.Random,
    *,
    hero: Character | None = None,
    plot: str | None = None,
    opening: str | None = None,
) -> str:
    """One story of five to nine sentences. What is given is kept; the rest is drawn.

    Args:
        rng: Where every choice comes from.
        hero: Who the story is about.
        plot: A key of `PLOTS`.
        opening: A template for the first sentence.
    """
    hero = hero or invent_character(rng, animal=rng.random() < 0.45)
    friend = _somebody_else(rng, hero)
    writer = Writer(rng, _LISTS)
    plot = plot or rng.choice(list(PLOTS))
    if opening is None:
        among_friends = plot == "quarrel" or (plot in _AMONG_FRIENDS and rng.random() < 0.4)
        opening = rng.choice(_TEMPLATES["opening of friends" if among_friends else "opening"])
    parts = [opening, *PLOTS[plot]]
    if rng.random() < 0.7:
        parts.append(rng.choice(_TEMPLATES["ending"]))
    return writer.write(" ".join(parts), _scene(rng, writer, hero, friend))


def write_note(rng: random.Random) -> str:
    """A short text that is no story: a description, a note, a letter, a scene at a gate."""
    person = invent_character(rng, animal=False)
    other = _somebody_else(rng, person)
    writer = Writer(rng, _LISTS)
    return writer.write(rng.choice(_TEMPLATES["note"]), _scene(rng, writer, person, other))


def _somebody_else(rng: random.Random, hero: Character) -> Character:
    while True:
        animal = hero.animal if rng.random() < 0.8 else not hero.animal
        other = invent_character(rng, animal=animal)
        if other.name != hero.name and other.kind != hero.kind:
            return other
