"""Filling in the middle: the prompt formats of code models, known by their special tokens.

Formats: CodeLlama (arXiv:2308.12950), StarCoder (arXiv:2305.06161), Qwen2.5-Coder
(arXiv:2409.12186), DeepSeek-Coder (arXiv:2401.14196).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from gatehouse.engines.base import InfillPrompt
from gatehouse.engines.text.plain_text import PlainText

# A character of no vocabulary: what follows it is not the beginning of a text.
_ANCHOR = "\N{WHITE SMILING FACE}"


@dataclass(frozen=True, slots=True)
class InfillFormat:
    """`{prefix}text before{suffix}text after{middle}`, and what the model says at the end.

    Attributes:
        eot: The token that ends the missing text and is shown to those who write prompts by hand.
    """

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...] = ()
    eot: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        eot = () if self.eot is None else (self.eot,)
        return (self.prefix, self.suffix, self.middle, *self.ends, *eot)

    @property
    def is_sentencepiece(self) -> bool:
        """Whether its names hold the space before them, as CodeLlama's do."""
        return self.prefix.startswith("▁")


_FORMATS = (
    InfillFormat("▁<PRE>", "▁<SUF>", "▁<MID>", eot="▁<EOT>"),
    # Here the spaces that people type around the marks are tokens like any other.
    InfillFormat("<PRE>", "<SUF>", "<MID>", eot="<EOT>"),
    InfillFormat(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|file_separator|>", "<|repo_name|>"),
    ),
    InfillFormat(
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
        ("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>", "<reponame>", "<filename>"),
    ),
    InfillFormat("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ("<|endoftext|>", "<fim-pad>")),
    # DeepSeek marks the hole where the missing text belongs, and has its own bars and spaces.
    InfillFormat(
        *(
            "<\uff5cfim\u2581begin\uff5c>",
            "<\uff5cfim\u2581hole\uff5c>",
            "<\uff5cfim\u2581end\uff5c>",
        ),
        ends=("<\uff5cend\u2581of\u2581sentence\uff5c>",),
    ),
)
_BY_HAND = re.compile(r" ?<PRE> (?P<prefix>.*) <SUF>(?P<suffix>.*) <MID>", re.DOTALL)


class Infilling:
    """The format of one tokenizer, if it has one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids = {
            token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()
        }
        self._format = _known_format(self._ids.keys())
        self._plain = PlainText(tokenizer, " ".join(self._format.names if self._format else ()))

    @property
    def is_possible(self) -> bool:
        return self._format is not None

    def written_by_hand(self, text: str) -> InfillPrompt | None:
        """What a text in CodeLlama's format says, for tokenizers that do not find its tokens."""
        if self._format is None or not self._format.is_sentencepiece:
            return None
        match = _BY_HAND.fullmatch(text)
        return InfillPrompt(match["prefix"], match["suffix"]) if match else None

    def encode(self, prompt: InfillPrompt) -> list[int]:
        """Token ids of the prompt, with what the tokenizer always puts in front."""
        assert self._format is not None
        before, after = (
            self._plain.break_marked(self._plain.mark(text))
            for text in (prompt.prefix, prompt.suffix)
        )
        names = self._format
        if not names.is_sentencepiece:
            text = f"{names.prefix}{before}{names.suffix}{after}{names.middle}"
            return self._leading_ids() + self._plain.encode(text)[0]
        return [
            *self._leading_ids(),
            self._ids[names.prefix],
            *self._plain.encode(before)[0],
            self._ids[names.suffix],
            *self._encode_inner(after),
            self._ids[names.middle],
        ]

    def ends(self, prompt_ids: Collection[int], *, by_hand: bool) -> dict[int, str]:
        """Tokens that end the missing text, and what is shown of them.

        The format's own tokens end it too: they may not come again. Nothing ends that way unless
        the prompt asks for a middle.
        """
        used = self._format
        if used is None or self._ids[used.middle] not in prompt_ids:
            return {}
        ends = {self._ids[name]: "" for name in used.names if name in self._ids}
        if by_hand and used.eot is not None and used.eot in self._ids:
            ends[self._ids[used.eot]] = used.eot.replace("▁", " ")
        return ends

    def _leading_ids(self) -> list[int]:
        ids = list(self._tokenizer("").input_ids)
        eos = self._tokenizer.eos_token_id
        return ids[:-1] if ids and ids[-1] == eos != self._tokenizer.bos_token_id else ids

    def _encode_inner(self, text: str) -> list[int]:
        """Ids without the space that SentencePiece puts before a text."""
        ids, places = self._plain.encode(_ANCHOR + text)
        return [token_id for token_id, (_, stop) in zip(ids, places, strict=True) if stop > 1]


def _known_format(names: Collection[str]) -> InfillFormat | None:
    for known in _FORMATS:
        if {known.prefix, known.suffix, known.middle} <= set(names):
            return known
    return None
