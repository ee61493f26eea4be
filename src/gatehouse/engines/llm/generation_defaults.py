"""How tokens are chosen when a request does not say: what `generation_config.json` holds.

Read as `generate` of `transformers` reads it. What beams, caches, lengths or assistants are to do
is left out: a sequence is decoded alone, and the request says how long it gets.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatehouse.engines.base import ModelNotLoadable, RunnerUnsuited
from gatehouse.engines.text.json_files import json_object

# Beyond these a penalty has no more effect, and float32 overflows.
LOWEST_PENALTY: Final = 1e-5
HIGHEST_PENALTY: Final = 1e5
HIGHEST_TEMPERATURE: Final = 1e9  # Every token is as likely as any other long before.

_MAX_EOS_TOKENS = 256
_MAX_BAD_WORD_LENGTH = 256
_HIGHEST_ID = 2**31 - 1
# Rules that nobody implemented here, and the values that switch them off.
_UNSUPPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "constraints": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_bos_token_id": (),
    "no_repeat_ngram_size": (0,),
    "remove_invalid_values": (False,),
    "sequence_bias": (),
    "token_healing": (False,),
    "top_h": (),
    "watermarking_config": (),
}


class SamplingRuleUnsupported(RunnerUnsuited):
    """The model wants its tokens chosen by a rule that only `transformers` has.

    Attributes:
        rule: As `generation_config.json` names it.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(f"`{rule}` in the generation config is not supported by this engine.")
        self.rule = rule


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What holds for every sequence of a model, unless its request says otherwise.

    Attributes:
        vocabulary_size: Logits of a row.
        eos_token_ids: Tokens that end a sequence. They may lie outside the vocabulary.
        min_new_tokens: If given, it takes the place of any `min_length`, as in `generate`.
        bad_words: Runs of tokens that must not be completed. None of them is an end alone.
        suppressed_ids: Tokens that are never chosen.
        begin_suppressed_ids: Tokens that are not chosen first.
        forced_end_ids: The last of `max_new_tokens` is one of these; empty: any.
    """

    vocabulary_size: int
    eos_token_ids: tuple[int, ...] = ()
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    repetition_penalty: float = 1.0
    min_length: int = 0
    min_new_tokens: int | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    suppressed_ids: tuple[int, ...] = ()
    begin_suppressed_ids: tuple[int, ...] = ()
    forced_end_ids: tuple[int, ...] = ()


def load_generation_defaults(folder: Path, vocabulary_size: int) -> GenerationDefaults:
    """The defaults of the model in `folder`; from `config.json` if it has no file for them.

    Raises:
        SamplingRuleUnsupported: Another engine may run the model.
        ModelNotLoadable: A file that is not JSON, or a value that means nothing.
    """
    values = _generation_config(folder)
    for rule, neutral in _UNSUPPORTED.items():
        if values.get(rule) is not None and values[rule] not in neutral:
            raise SamplingRuleUnsupported(rule)
    read = _Values(values)
    end_ids = read.ids("eos_token_id", _MAX_EOS_TOKENS)
    forced_end_ids = read.ids("forced_eos_token_id", _MAX_EOS_TOKENS)
    if any(token_id >= vocabulary_size for token_id in forced_end_ids):
        raise _invalid("forced_eos_token_id", "token ids of the model's vocabulary")
    return GenerationDefaults(
        vocabulary_size=vocabulary_size,
        eos_token_ids=end_ids,
        temperature=read.number("temperature", 1.0, 0.0, HIGHEST_TEMPERATURE),
        # Other servers write -1 for no limit.
        top_k=max(0, read.integer("top_k", 50, -1)),
        top_p=read.number("top_p", 1.0),
        min_p=read.number("min_p", 0.0),
        typical_p=read.number("typical_p", 1.0),
        epsilon_cutoff=read.number("epsilon_cutoff", 0.0),
        eta_cutoff=read.number("eta_cutoff", 0.0),
        repetition_penalty=read.number("repetition_penalty", 1.0, LOWEST_PENALTY, HIGHEST_PENALTY),
        min_length=read.integer("min_length", 0),
        min_new_tokens=(
            read.integer("min_new_tokens", 0) if values.get("min_new_tokens") is not None else None
        ),
        bad_words=_bad_words(values.get("bad_words_ids"), vocabulary_size, end_ids),
        suppressed_ids=_within(read.ids("suppress_tokens", lowest=-1), vocabulary_size),
        begin_suppressed_ids=_within(read.ids("begin_suppress_tokens", lowest=-1), vocabulary_size),
        forced_end_ids=forced_end_ids,
    )


class _Values:
    """Reads single values; one that is missing or null is its default."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def number(self, name: str, default: float, lowest: float = 0.0, highest: float = 1.0) -> float:
        value = self._values.get(name)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not lowest <= value <= highest:  # NaN is not either.
            raise _invalid(name, f"a number from {lowest:g} to {highest:g}")
        return float(value)

    def integer(self, name: str, default: int, lowest: int = 0) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not _is_id(value, lowest):
            raise _invalid(name, f"a whole number from {lowest} to {_HIGHEST_ID}")
        return int(value)

    def ids(self, name: str, most: int | None = None, lowest: int = 0) -> tuple[int, ...]:
        value = self._values.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(_is_id(token_id, lowest) for token_id in ids) or len(ids) > (most or len(ids)):
            raise _invalid(
                name, f"a token id, or a list of {f'at most {most}' if most else 'them'}"
            )
        return tuple(dict.fromkeys(ids))


def _generation_config(folder: Path) -> dict[str, Any]:
    if (folder / "generation_config.json").exists():
        return json_object(folder / "generation_config.json")
    config = json_object(folder / "config.json")
    for name in ("decoder", "generator", "text_config"):
        inner = config.get(name)
        if inner and isinstance(inner, dict):
            return inner | {key: value for key, value in config.items() if value is not None}
    return config


def _bad_words(
    value: Any, vocabulary_size: int, end_ids: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    words = [] if value is None else value
    if not isinstance(words, list) or not all(_is_word(word, vocabulary_size) for word in words):
        raise _invalid(
            "bad_words_ids", "a list of lists of token ids, none empty, of the model's vocabulary"
        )
    ends = {(token_id,) for token_id in end_ids}
    return tuple(word for word in dict.fromkeys(map(tuple, words)) if word not in ends)


def _is_word(word: Any, vocabulary_size: int) -> bool:
    return (
        isinstance(word, list)
        and 0 < len(word) <= _MAX_BAD_WORD_LENGTH
        and all(_is_id(token_id) and token_id < vocabulary_size for token_id in word)
    )


def _is_id(value: Any, lowest: int = 0) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and lowest <= value <= _HIGHEST_ID


def _within(ids: tuple[int, ...], vocabulary_size: int) -> tuple[int, ...]:
    return tuple(token_id for token_id in ids if 0 <= token_id < vocabulary_size)


def _invalid(name: str, wanted: str) -> ModelNotLoadable:
    return ModelNotLoadable(f"`{name}` in the generation config must be {wanted}.")
