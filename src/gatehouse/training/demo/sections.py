"""Reads the text files of the demo corpus: `[section]`, entries below it, `#` for remarks."""

import re
from collections.abc import Mapping
from importlib import resources

# An entry may begin with a choice, `[like|this]`, so a title is nothing but words.
_TITLE = re.compile(r"\[[\w ]+\]")

Sections = Mapping[str, tuple[str, ...]]


def read_sections(name: str) -> Sections:
    """The sections of `texts/<name>.txt` with their lines, in the order of the file."""
    folder = resources.files("gatehouse.training.demo") / "texts"
    return parse_sections((folder / f"{name}.txt").read_text(encoding="utf-8"))


def parse_sections(text: str) -> Sections:
    """Split `text` into its sections.

    Raises:
        ValueError: A line stands before the first section, or a section comes twice.
    """
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if _TITLE.fullmatch(line):
            title = line[1:-1]
            if title in sections:
                raise ValueError(f"The section `{title}` comes twice.")
            lines = sections[title] = []
        elif line and not line.startswith("#"):
            if lines is None:
                raise ValueError(f"`{line[:50]}` stands before the first section.")
            lines.append(line)
    return {title: tuple(each) for title, each in sections.items()}


def separated(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The entries of lines that hold several, separated by commas."""
    return tuple(entry.strip() for line in lines for entry in line.split(",") if entry.strip())


def table(lines: tuple[str, ...]) -> dict[str, str]:
    """The lines `key: value` as a dictionary."""
    entries = (line.partition(": ") for line in lines)
    return {key: value for key, _, value in entries}


def question_and_answers(lines: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions (lines after `? `) and their possible answers (lines after `! `)."""
    questions = tuple(line[2:] for line in lines if line.startswith("? "))
    answers = tuple(line[2:] for line in lines if line.startswith("! "))
    return questions, answers
