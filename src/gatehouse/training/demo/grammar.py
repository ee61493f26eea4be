"""Templates with choices, for writing synthetic English.

`[a|b]` picks one alternative (nesting allowed, an empty one too), `<name>` a line of a named list,
`{slot}` a given value. It knows nothing of models or of what the text is about.
"""

import random
import re
from collections.abc import Mapping, Sequence

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_RULE = re.compile(r"<(\w+)>")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ne\b|ni|se)|hon)")
_SENTENCE_START = re.compile(r"(^[\"']?|[.!?] [\"']?|\.\" |\n)([a-z])")

Lists = Mapping[str, Sequence[str]]


class Writer:
    """Expands templates with one random stream, so the same seed writes the same text."""

    def __init__(self, rng: random.Random, lists: Lists) -> None:
        self.rng = rng
        self._lists = lists

    def pick(self, name: str) -> str:
        """One line of the list `name`, itself expanded."""
        return self._choices(self.rng.choice(self._lists[name]))

    def write(self, template: str, slots: Mapping[str, str] | None = None) -> str:
        """Expand `template` and tidy the text.

        Raises:
            KeyError: The template names a list or a slot that is not there.
        """
        text = self._choices(template).format_map(slots or {})
        return tidy(self._choices(text))

    def _choices(self, text: str) -> str:
        while "[" in text or "<" in text:
            text = _RULE.sub(lambda match: self.rng.choice(self._lists[match[1]]), text)
            text = _CHOICE.sub(lambda match: self.rng.choice(match[1].split("|")), text)
        return text


def tidy(text: str) -> str:
    """Single spaces, none before punctuation, `an` before a vowel, a capital after a full stop."""
    text = re.sub(r"[ ]+", " ", text).strip()
    text = re.sub(r" ([.,;:!?])", r"\1", text)
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
