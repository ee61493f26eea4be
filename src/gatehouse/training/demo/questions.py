"""Questions about everyday facts with their answers, one function for each family.

A key names the composition (which wording met which fact), so that some compositions can be held
out of training and measured.
"""

import random
from dataclasses import dataclass
from typing import Final

from gatehouse.training.demo import facts
from gatehouse.training.demo.grammar import tidy
from gatehouse.training.demo.sections import read_sections

_LEG_WORDS: Final = {0: "no", 2: "two", 4: "four", 6: "six", 8: "eight"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question, its answer, and the name of the composition if it may be held out."""

    question: str
    answer: str
    key: str | None = None


CAPITAL_QUESTIONS: Final = read_sections("talk")["capital"]


def ask_capital(country: str, question: str = CAPITAL_QUESTIONS[0]) -> Exchange:
    """The capital of `country`, asked in the words of `question` (with one `{}`)."""
    answer = f"The capital of {country} is {facts.CAPITALS[country]}."
    return Exchange(question.format(country), answer, f"capital {question} {country}")


def capital(rng: random.Random) -> Exchange:
    country = rng.choice(list(facts.CAPITALS))
    if rng.random() < 0.8:
        return ask_capital(country, rng.choice(CAPITAL_QUESTIONS))
    city = facts.CAPITALS[country]
    question = rng.choice(
        ("{} is the capital of which country?", "Which country has the capital {}?", "Where is {}?")
    )
    return Exchange(question.format(city), f"{city} is the capital of {country}.")


def country(rng: random.Random) -> Exchange:
    country = rng.choice(list(facts.CONTINENTS))
    continent, city = facts.CONTINENTS[country], facts.CAPITALS[country]
    if rng.random() < 0.5:
        questions = (
            "Where is {}?",
            "On which continent is {}?",
            "In which part of the world is {}?",
        )
        return Exchange(rng.choice(questions).format(country), f"{country} is in {continent}.")
    question = rng.choice(("Tell me about {}.", "What is {}?", "What do you know about {}?"))
    if rng.random() < 0.3:
        return Exchange(question.format(city), f"{city} is the capital of {country}.")
    return Exchange(
        question.format(country), f"{country} is a country in {continent}. Its capital is {city}."
    )


def opposite(rng: random.Random) -> Exchange:
    word, other = rng.choice(list(facts.OPPOSITES.items()))
    if (
        other not in facts.OPPOSITES
        and list(facts.OPPOSITES.values()).count(other) == 1
        and rng.random() < 0.5
    ):
        word, other = other, word
    questions = (
        "What is the opposite of {}?",
        "Tell me the opposite of {}.",
        "What is the contrary of {}?",
        "The opposite of {}?",
    )
    question = rng.choice(questions)
    return Exchange(
        question.format(word), f"The opposite of {word} is {other}.", f"opposite {question} {word}"
    )


def colour(rng: random.Random) -> Exchange:
    thing, colour = rng.choice(list(facts.COLOURS.items()))
    question = rng.choice(
        (
            "What colour is {}?",
            "What color is {}?",
            "Which colour does {} have?",
            "Tell me the colour of {}.",
        )
    )
    return Exchange(
        question.format(thing), tidy(f"{thing} is {colour}."), f"colour {question} {thing}"
    )


def animal(rng: random.Random) -> Exchange:
    name = rng.choice(list(facts.ANIMALS))
    animal = facts.ANIMALS[name]
    group, sound = animal.group, animal.sound
    a_name = tidy(f"x a {name}")[2:]
    a_group = tidy(f"x a {group}")[2:]
    about = f"{a_name} is {animal.description}. It lives {animal.home} and eats {animal.food}."
    options = [
        (f"What is {a_name}?", about),
        (f"Tell me about {rng.choice((a_name, f'the {name}'))}.", about),
        (f"Describe {a_name}.", about),
        (f"Where does {a_name} live?", f"{a_name} lives {animal.home}."),
        (f"What does {a_name} eat?", f"{a_name} eats {animal.food}."),
        (f"How many legs does {a_name} have?", f"{a_name} has {_LEG_WORDS[animal.legs]} legs."),
        (f"Is {a_name} {a_group}?", f"Yes, {a_name} is {a_group}."),
    ]  # fmt: skip
    other = rng.choice(("mammal", "bird", "fish", "insect", "reptile"))
    if other != group:
        options.append((tidy(f"Is {a_name} a {other}?"), f"No, {a_name} is {a_group}."))
    if sound:
        options.append((f"What sound does {a_name} make?", f"{a_name} says {sound}."))
        options.append((f"Which animal says {sound}?", f"{a_name} says {sound}."))
    question, answer = rng.choice(options)
    return Exchange(question, tidy(answer))


def bigger(rng: random.Random) -> Exchange:
    first, second = rng.sample(list(facts.ANIMALS), 2)
    sizes = facts.ANIMALS[first].size, facts.ANIMALS[second].size
    if sizes[0] == sizes[1]:
        return bigger(rng)
    big, small = (first, second) if sizes[0] > sizes[1] else (second, first)
    key = f"bigger {min(first, second)} {max(first, second)}"
    if rng.random() < 0.3:
        return Exchange(
            tidy(f"Which is smaller, a {first} or a {second}?"),
            tidy(f"A {small} is smaller than a {big}."),
            key,
        )
    question = rng.choice(("Which is bigger, a {} or a {}?", "What is bigger, a {} or a {}?"))
    return Exchange(
        tidy(question.format(first, second)), tidy(f"A {big} is bigger than a {small}."), key
    )


def arithmetic(rng: random.Random) -> Exchange:
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    if rng.random() < 0.3:
        a, b = max(a, b), min(a, b)
        question = rng.choice(
            ("What is {} minus {}?", "{} - {}", "What is {} - {}?", "Take {1} away from {0}.")
        )
        return Exchange(question.format(a, b), f"{a} minus {b} is {a - b}.", f"minus {a} {b}")
    question = rng.choice(
        (
            "What is {} plus {}?",
            "{} + {}",
            "What is {} + {}?",
            "Add {} and {}.",
            "How much is {} plus {}?",
        )
    )
    return Exchange(question.format(a, b), f"{a} plus {b} is {a + b}.", f"plus {a} {b}")


def calendar(rng: random.Random) -> Exchange:
    if rng.random() < 0.25:
        month = rng.choice(facts.MONTHS)
        return Exchange(
            f"How many days does {month} have?", f"{month} has {facts.MONTH_LENGTHS[month]} days."
        )
    names, noun = rng.choice(((facts.DAYS, "day"), (facts.MONTHS, "month")))
    index = rng.randrange(len(names))
    if rng.random() < 0.5:
        question = rng.choice(
            (
                f"Which {noun} comes after {{}}?",
                f"What {noun} comes after {{}}?",
                "What comes after {}?",
            )
        )
        return Exchange(
            question.format(names[index]),
            f"{names[(index + 1) % len(names)]} comes after {names[index]}.",
        )
    question = rng.choice(
        (
            f"Which {noun} comes before {{}}?",
            f"What {noun} is before {{}}?",
            "What comes before {}?",
        )
    )
    return Exchange(
        question.format(names[index]), f"{names[index - 1]} comes before {names[index]}."
    )


def thing(rng: random.Random) -> Exchange:
    family = rng.randrange(3)
    if family == 0:
        job, work = rng.choice(list(facts.JOBS.items()))
        question = rng.choice(
            ("What does a {} do?", "What is a {}?", "What is the work of a {}?", "Who {work}?")
        )
        return Exchange(tidy(question.format(job, work=work)), tidy(f"A {job} {work}."))
    if family == 1:
        thing, use = rng.choice(list(facts.USES.items()))
        question = rng.choice(
            ("What is {} for?", "What do we use {} for?", "Why do people need {}?")
        )
        return Exchange(question.format(thing), f"We use {thing} to {use}.")
    thing, material = rng.choice(list(facts.MADE_OF.items()))
    question = rng.choice(("What is {} made of?", "What is {} made from?"))
    return Exchange(question.format(thing), tidy(f"{thing} is made of {material}."))


def group(rng: random.Random) -> Exchange:
    group = rng.choice(list(facts.GROUPS))
    members = facts.GROUPS[group]
    if rng.random() < 0.4:
        plural = group.replace("piece", "pieces") if "piece" in group else f"{group}s"
        one, two, three = rng.sample(members, 3)
        question = rng.choice(
            ("Name three {}.", "Tell me three {}.", "Give me three {}.", "Can you name three {}?")
        )
        return Exchange(question.format(plural), f"Three {plural} are {one}, {two} and {three}.")
    member = rng.choice(members)
    if group == "colour":
        return Exchange(f"Is {member} a colour?", f"Yes, {member} is a colour.")
    other = rng.choice([each for each in facts.GROUPS if each != "colour"])
    key = f"group {member} {other}"
    if member in facts.GROUPS[other]:
        return Exchange(tidy(f"Is a {member} a {other}?"), tidy(f"Yes, a {member} is a {other}."))
    return Exchange(tidy(f"Is a {member} a {other}?"), tidy(f"No, a {member} is a {group}."), key)


def plain(rng: random.Random) -> Exchange:
    return Exchange(*rng.choice(facts.PLAIN_FACTS))


def count(rng: random.Random) -> Exchange:
    first = rng.choice((1, 1, 1, 2, 3, 4, 5))
    last = rng.randint(first + 3, 12)
    question = (
        f"Count to {last}."
        if first == 1 and rng.random() < 0.5
        else f"Count from {first} to {last}."
    )
    return Exchange(question, ", ".join(str(number) for number in range(first, last + 1)) + ".")
