"""The words that the demo corpus is made of: lists of names, things, places and manners."""

from typing import Final

from gatehouse.training.demo.sections import read_sections, separated

WORDS: Final = {title: separated(lines) for title, lines in read_sections("words").items()}

GIRLS: Final = WORDS["girls"]
BOYS: Final = WORDS["boys"]
ANIMAL_NAMES: Final = WORDS["animal_names"]
SYLLABLES: Final = WORDS["syllables"]
# A place, and the word that stands before it when somebody is there.
PLACES: Final = {
    place: before for before, place in (each.split(" ", 1) for each in WORDS["places"])
}
