"""Text that people wrote, tokenized so that names of special tokens in it are only text.

Names are marked before the text passes a chat template and broken afterwards, by a character that
the tokenizer drops once it has looked for special tokens. Templates see the names whole: some split
messages at them.
"""

import itertools
import json
import re
import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

# Noncharacters of Unicode: they mean nothing in any text.
_OPEN, _CLOSE, _BREAK = "\ufdd0", "\ufdd1", "\ufdd2"
# As templates write them that turn messages into ASCII.
_ESCAPED = {mark: f"\\u{ord(mark):04x}" for mark in (_OPEN, _CLOSE, _BREAK)}
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}{_BREAK}]")
_WORD_MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # a space, in the vocabularies of SentencePiece


class PlainText:
    """Marks names of special tokens, and tokenizes text in which some are marked.

    Args:
        tokenizer: Of `transformers`.
        template: Added tokens that stand in it count as special, such as `<tool_call>`.
    """

    def __init__(self, tokenizer: Any, template: str = "") -> None:
        self._tokenizer = tokenizer
        self._breaking: Tokenizer | None = None
        self._lock = threading.Lock()
        found = _names(tokenizer, template)
        # A name of one character cannot be broken: it is left out.
        self._single = re.compile(_any_of({name for name in found if len(name) == 1}))
        any_name = _any_of({name for name in found if len(name) > 1})
        # A tokenizer that lowers its text finds names in any case.
        self._names = re.compile(any_name, re.IGNORECASE)
        self._beginnings = re.compile(f"(?={any_name})", re.IGNORECASE)
        self._marked = re.compile(f"{_OPEN}({any_name}){_CLOSE}", re.IGNORECASE)

    def mark(self, value: Any) -> Any:
        """The same value with each name in its texts marked; keys of objects are texts too."""
        if isinstance(value, str):
            return self._mark_text(value)
        if isinstance(value, dict):
            return {self.mark(key): self.mark(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(inner) for inner in value]
        return value

    def break_marked(self, text: str) -> str:
        """The text ready for `encode`."""
        for mark, escaped in _ESCAPED.items():
            text = text.replace(escaped, mark)
        broken = self._marked.sub(lambda match: match[1][0] + _BREAK + match[1][1:], text)
        return broken.replace(_OPEN, "").replace(_CLOSE, "")

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and each token's place in `shown(text)`; no token is added around them."""
        if _BREAK not in text:
            encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            return list(encoded.input_ids), list(encoded.offset_mapping)
        encoding = self._breaking_tokenizer().encode(text, add_special_tokens=False)
        places = _places_without_breaks(text)
        offsets = [(places(start), places(stop)) for start, stop in encoding.offsets]
        return list(encoding.ids), offsets

    @staticmethod
    def shown(text: str) -> str:
        return text.replace(_BREAK, "")

    def _mark_text(self, text: str) -> str:
        text = self._single.sub("", _MARKS.sub("", text))
        if not self._names.search(text):
            return text
        starts = [match.start() for match in self._beginnings.finditer(text)]
        wrapped, num_wrapped = self._names.subn(lambda match: _OPEN + match[0] + _CLOSE, text)
        if num_wrapped == len(starts):
            return wrapped
        # Names that overlap are no accident; the template need not see them whole.
        return _break_at(text, starts)

    def _breaking_tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._breaking is None:
                self._breaking = _drops_breaks(self._tokenizer.backend_tokenizer)
            return self._breaking


def _names(tokenizer: Any, template: str) -> set[str]:
    names: set[str] = set(tokenizer.all_special_tokens)
    for token in tokenizer.added_tokens_decoder.values():
        is_written = token.content in template and not token.content.isspace()
        if token.special or is_written:
            names.add(token.content)
    # `▁<PRE>` is found in ` <PRE>` too.
    names |= {name.replace(_WORD_MARK, " ").strip() for name in names if _WORD_MARK in name}
    return names - {""}


def _any_of(names: set[str]) -> str:
    """A pattern for any of them, the longest that is there; without names, one that never matches.

    Shared beginnings are written once: some vocabularies have hundreds of names that differ in
    their last digits, and a list of them would be tried name by name.
    """
    if not names:
        return "(?!)"
    by_first: dict[str, set[str]] = {}
    for name in names - {""}:
        by_first.setdefault(name[0], set()).add(name[1:])
    branches = [
        re.escape(first + rests.pop()) if len(rests) == 1 else re.escape(first) + _any_of(rests)
        for first, rests in sorted(by_first.items())
    ]
    pattern = f"(?:{'|'.join(branches)})"
    return f"{pattern}?" if "" in names else pattern


def _break_at(text: str, starts: list[int]) -> str:
    """Put a break behind the first character of each name."""
    borders = [0, *(start + 1 for start in starts), len(text)]
    return _BREAK.join(text[start:stop] for start, stop in itertools.pairwise(borders))


def _drops_breaks(backend: Tokenizer) -> Tokenizer:
    """A copy that drops breaks after special tokens were found, before anything else."""
    description = json.loads(backend.to_str())
    drop = {
        "type": "Split",
        "pattern": {"String": _BREAK},
        "behavior": "Removed",
        "invert": False,
    }
    original = description["pre_tokenizer"]
    description["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [drop, original] if original else [drop],
    }
    copy = Tokenizer.from_str(json.dumps(description))
    copy.no_truncation()
    copy.no_padding()
    return copy


def _places_without_breaks(text: str) -> Callable[[int], int]:
    breaks = [place for place, character in enumerate(text) if character == _BREAK]
    return lambda place: place - bisect_left(breaks, place)
