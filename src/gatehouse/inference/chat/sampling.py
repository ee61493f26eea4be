"""How the tokens of a chat answer are chosen: OpenAI's parameters, and those of other servers."""

from collections.abc import Mapping
from typing import Any

from gatehouse.engines.base import SamplingParams
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.json_fields import Fields

MAX_LOGIT_BIASES = 1024
_SEEDS = 2**64


def read_sampling(fields: Fields) -> SamplingParams:
    """Sampling, unless `temperature` is 0.

    Raises:
        ValidationFailed: A parameter is out of its range.
    """
    temperature = _within(fields, "temperature", 0, 2)
    top_p = _within(fields, "top_p", 0, 1)
    top_k = fields.integer("top_k", -1)
    repetition_penalty = fields.number("repetition_penalty")
    if repetition_penalty is not None and repetition_penalty <= 0:
        raise ValidationFailed("`repetition_penalty` must be strictly positive")
    typical_p = fields.number("typical_p")
    if typical_p is not None and not 0 < typical_p <= 1:
        raise ValidationFailed("`typical_p` must be > 0.0 and <= 1.0")
    return SamplingParams(
        # The smallest nucleus is the likeliest token alone.
        do_sample=temperature != 0 and top_p != 0,
        temperature=temperature,
        # 0 and -1 say in other servers that all tokens are considered.
        top_k=None if top_k is None else max(top_k, 0),
        top_p=top_p,
        typical_p=typical_p,
        min_p=_within(fields, "min_p", 0, 1),
        repetition_penalty=repetition_penalty,
        frequency_penalty=_within(fields, "frequency_penalty", -2, 2) or 0.0,
        presence_penalty=_within(fields, "presence_penalty", -2, 2) or 0.0,
        logit_bias=_logit_bias(fields.raw("logit_bias")),
        seed=_seed(fields),
    )


def _seed(fields: Fields) -> int | None:
    """OpenAI's seeds are signed, those of the engines are not."""
    seed = fields.integer("seed", -_SEEDS // 2, _SEEDS - 1)
    return None if seed is None else seed % _SEEDS


def _within(fields: Fields, name: str, lowest: float, highest: float) -> float | None:
    value = fields.number(name)
    if value is not None and not lowest <= value <= highest:
        raise ValidationFailed(f"`{name}` must be >= {lowest} and <= {highest}. Given: {value}")
    return value


def _logit_bias(value: Any) -> tuple[tuple[int, float], ...]:
    """Text-generation-inference took a list, and ignored it; so it is here."""
    if value is None or isinstance(value, list):
        return ()
    if not isinstance(value, Mapping):
        raise ValidationFailed("`logit_bias` must be an object of token ids and numbers")
    if len(value) > MAX_LOGIT_BIASES:
        raise ValidationFailed(f"`logit_bias` may have at most {MAX_LOGIT_BIASES} entries")
    return tuple(sorted((_token_id(key), _bias(bias)) for key, bias in value.items()))


def _token_id(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise ValidationFailed(f"`logit_bias` has a key that is no token id: {key[:32]!r}")
    return int(key)


def _bias(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -100 <= value <= 100:
        raise ValidationFailed("`logit_bias` values must be numbers from -100 to 100")
    return float(value)
