"""A tokenizer for models that were never trained: bytes, and what letters spell.

Needs no text to learn from, so it is the same on every machine. Its pieces are about as long as
those of a real one, which is all that a detokenizer notices.
"""

import itertools
import json
from pathlib import Path

_END = "<|endoftext|>"
_LETTERS = "Ġabcdefghijklmnopqrstuvwxyz"


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write `tokenizer.json` and its configuration, with exactly so many tokens."""
    tokens, merges = _pieces(vocab_size - 1)
    vocabulary = {token: number for number, token in enumerate([_END, *tokens])}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    end = {"id": 0, "content": _END, "special": True, "single_word": False}
    document = {
        "version": "1.0",
        "added_tokens": [end | {"lstrip": False, "rstrip": False, "normalized": False}],
        "pre_tokenizer": byte_level | {"use_regex": True},
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _pieces(count: int) -> tuple[list[str], list[tuple[str, str]]]:
    """So many tokens, and the merges that make the longer ones."""
    tokens = _byte_characters()
    merges: list[tuple[str, str]] = []
    shorter = list(_LETTERS)
    while len(tokens) < count:
        pairs = list(itertools.islice(itertools.product(shorter, _LETTERS), count - len(tokens)))
        merges += pairs
        shorter = [first + second for first, second in pairs]
        tokens += shorter
    return tokens, merges


def _byte_characters() -> list[str]:
    """The character that stands for each byte in a vocabulary of the GPT-2 kind."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = itertools.count(0x100)
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
