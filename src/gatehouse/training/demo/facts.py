"""Everyday facts that the demo model is taught, as tables without any sentence about them."""

from dataclasses import dataclass
from typing import Final

from gatehouse.training.demo.sections import read_sections, separated, table

_SECTIONS: Final = read_sections("facts")


@dataclass(frozen=True, slots=True)
class Animal:
    """What is known of one animal.

    Attributes:
        group: `mammal`, `bird` and so on.
        size: From 1 (an ant) to 9 (a whale); only good for comparing.
        sound: What it says, or an empty string.
    """

    group: str
    size: int
    legs: int
    home: str
    food: str
    sound: str
    description: str


def _animal(line: str) -> Animal:
    group, size, legs, home, food, sound, description = (part.strip() for part in line.split(";"))
    return Animal(group, int(size), int(legs), home, food, sound, description)


CAPITALS: Final = table(_SECTIONS["capitals"])
OPPOSITES: Final = table(_SECTIONS["opposites"])
COLOURS: Final = table(_SECTIONS["colours"])
JOBS: Final = table(_SECTIONS["jobs"])
USES: Final = table(_SECTIONS["uses"])
MADE_OF: Final = table(_SECTIONS["made of"])
GROUPS: Final = {
    name: separated((members,)) for name, members in table(_SECTIONS["groups"]).items()
}
CONTINENTS: Final = {
    country: continent
    for continent, countries in table(_SECTIONS["continents"]).items()
    for country in separated((countries,))
}
ANIMALS: Final = {name: _animal(line) for name, line in table(_SECTIONS["animals"]).items()}
MONTH_LENGTHS: Final = {name: int(days) for name, days in table(_SECTIONS["months"]).items()}
MONTHS: Final = tuple(MONTH_LENGTHS)
DAYS: Final = _SECTIONS["days"]
# Question and answer, split after the first question mark.
PLAIN_FACTS: Final = tuple(
    (f"{question}?", answer)
    for question, answer in (line.split("? ", 1) for line in _SECTIONS["plain"])
)
