"""The demo corpus: an endless seeded stream of plain texts and conversations in synthetic English.

Who may appear together with what is decided here: the weights of the parts, the system prompts, and
which compositions are held out of training. It knows nothing of tokens or models.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatehouse.training.demo.exchanges import draw_exchange, is_held_out
from gatehouse.training.demo.grammar import tidy
from gatehouse.training.demo.questions import Exchange
from gatehouse.training.demo.sections import read_sections
from gatehouse.training.demo.stories import (
    PLOTS,
    Character,
    invent_character,
    invented_name,
    tell_story,
    write_note,
)
from gatehouse.training.demo.words import BOYS, GIRLS


@dataclass(frozen=True, slots=True)
class Document:
    """One training text: a conversation, or plain text when it has no exchanges.

    Attributes:
        text: The plain text, empty for a conversation.
        exchanges: Questions and answers in order.
        system: The system prompt, or nothing.
    """

    text: str = ""
    exchanges: tuple[Exchange, ...] = ()
    system: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation as chat templates want it."""
        turns = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self.exchanges:
            turns.append({"role": "user", "content": exchange.question})
            turns.append({"role": "assistant", "content": exchange.answer})
        return turns


_TALK: Final = read_sections("talk")
ROLES: Final = _TALK["roles"]
_NAMELESS_PROMPTS: Final = _TALK["system prompts"]
_WHO_ARE_YOU: Final = _TALK["who are you"]


def draw_document(rng: random.Random) -> Document:
    """The next training document."""
    share = rng.random()
    if share < 0.22:
        return Document(text=draw_story(rng))
    if share < 0.34:
        return Document(text=write_note(rng))
    if share < 0.42:
        return Document(text=_plain_facts(rng))
    if share < 0.49:
        return Document(exchanges=(ask_for_story(rng),), system=_system(rng)[0])
    return _conversation(rng)


def training_documents(seed: int) -> Iterator[Document]:
    """Training documents without end; the same seed gives the same ones."""
    rng = random.Random(seed)  # noqa: S311 - a corpus, not a secret
    while True:
        yield draw_document(rng)


def introduce(name: str, role: str, question: str = _WHO_ARE_YOU[0]) -> Document:
    """A conversation in which the model must read its own name in the system prompt."""
    exchange = Exchange(question, f"I am {name}, {role}.", f"name {name}")
    return Document(exchanges=(exchange,), system=f"You are {name}, {role}.")


def draw_story(rng: random.Random, *, held_out: bool = False) -> str:
    """A story whose pair of hero and plot is trained on, or is never trained on."""
    while True:
        hero, plot = invent_character(rng, animal=rng.random() < 0.45), rng.choice(list(PLOTS))
        if is_held_out(f"story {hero.kind} {plot}") == held_out:
            return tell_story(rng, hero=hero, plot=plot)


def ask_for_story(rng: random.Random) -> Exchange:
    """A wish for a story, about nobody in particular, a kind of hero, or a named one."""
    hero: Character = invent_character(rng, animal=rng.random() < 0.5)
    plot = rng.choice(list(PLOTS))
    while is_held_out(f"story {hero.kind} {plot}"):
        plot = rng.choice(list(PLOTS))
    verb = rng.choice(
        (
            "Tell me",
            "Write",
            "Please tell me",
            "Can you tell me",
            "I would like to hear",
            "Write me",
        )
    )
    about = rng.choice(
        (
            "",
            f" about a {hero.kind}",
            f" about a {hero.kind} named {hero.name}",
            f" about {hero.name} the {hero.kind}",
        )
    )
    question = tidy(
        f"{verb} a {rng.choice(('story', 'story', 'short story', 'little story'))}{about}"
    )
    return Exchange(
        question + ("?" if verb.startswith("Can") else "."), tell_story(rng, hero=hero, plot=plot)
    )


def _plain_facts(rng: random.Random) -> str:
    exchanges = [draw_exchange(rng) for _ in range(rng.randint(1, 4))]
    style = rng.randrange(3)
    if style == 0:
        return " ".join(exchange.answer for exchange in exchanges)
    if style == 1:
        return "\n".join(f"Question: {each.question}\nAnswer: {each.answer}" for each in exchanges)
    return " ".join(f"{each.question} {each.answer}" for each in exchanges[:2])


def _conversation(rng: random.Random) -> Document:
    system, introduction = _system(rng)
    exchanges: list[Exchange] = []
    user_name = ""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        share = rng.random()
        if share < (0.4 if system else 0.08):
            exchange = Exchange(rng.choice(_WHO_ARE_YOU), introduction)
        elif share < 0.48 and not user_name and rng.random() < 0.4:
            user_name = _name(rng)
            exchange = _greet(rng, user_name)
        elif user_name and rng.random() < 0.5:
            exchange = Exchange(
                rng.choice(("What is my name?", "Do you remember my name?", "Who am I?")),
                f"Your name is {user_name}.",
            )
        else:
            exchange = draw_exchange(rng)
        exchanges.append(
            Exchange(_type_carelessly(rng, exchange.question), exchange.answer, exchange.key)
        )
    return Document(exchanges=tuple(exchanges), system=system)


def _greet(rng: random.Random, name: str) -> Exchange:
    question = rng.choice(
        ("My name is {}.", "I am {}.", "Hello, I am {}.", "Hi, my name is {}.", "Call me {}.")
    )
    return Exchange(
        question.format(name),
        rng.choice(("Nice to meet you, {}!", "Hello {}! How can I help you?")).format(name),
    )


def _name(rng: random.Random) -> str:
    """A name that is not held out; half of them invented, so that the model learns to copy."""
    while True:
        name = invented_name(rng) if rng.random() < 0.5 else rng.choice(GIRLS + BOYS)
        if not is_held_out(f"name {name}"):
            return name


def _system(rng: random.Random) -> tuple[str, str]:
    """A system prompt (often none) and the answer it implies to "Who are you?"."""
    share = rng.random()
    if share < 0.55:
        return "", "I am the Gatehouse demo model, a very small language model."
    if share < 0.68:
        prompt = rng.choice(_NAMELESS_PROMPTS)
        return prompt, "I am the Gatehouse demo model, a very small language model."
    name, role = _name(rng), rng.choice(ROLES)
    prompt = rng.choice(
        (
            "You are {name}, {role}.",
            "Your name is {name} and you are {role}.",
            "You are {role} named {name}.",
        )
    )
    extra = rng.choice(("", "", "", " Answer briefly.", " Be polite.", " Answer in one sentence."))
    return prompt.format(name=name, role=role) + extra, f"I am {name}, {role}."


def _type_carelessly(rng: random.Random, question: str) -> str:
    """Now and then without capitals or the last mark, as people type."""
    if rng.random() < 0.12:
        question = question.lower()
    if rng.random() < 0.12:
        question = question.rstrip("?.!")
    return question
