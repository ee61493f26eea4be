"""How OpenAI's surfaces say the way the next token is chosen.

They sample unless told otherwise, where the text-generation surface is greedy unless told so.
"""

from collections.abc import Mapping

from gatehouse.engines.base import SamplingParams
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.json_fields import Fields

MAX_TOP_LOGPROBS = 20
_MAX_BIASES = 1024
_LARGEST_BIAS = 100
_SEEDS = 2**64


def read_sampling(fields: Fields) -> SamplingParams:
    """Sampling unless `temperature` is 0, or `do_sample` false.

    Raises:
        ValidationFailed: A field is out of its range.
    """
    temperature = within(fields, "temperature", 0, 2)
    top_p = within(fields, "top_p", 0, 1)
    typical_p = within(fields, "typical_p", 0, 1)
    repetition_penalty = fields.number("repetition_penalty")
    if repetition_penalty is not None and repetition_penalty <= 0:
        raise ValidationFailed("`repetition_penalty` must be strictly positive")
    # Programs write -1 for a random seed, and OpenAI's seeds are signed.
    seed = fields.integer("seed", -(2**63), _SEEDS - 1)
    return SamplingParams(
        do_sample=temperature != 0 and fields.boolean("do_sample", default=True),
        temperature=temperature,
        # Others write -1 or 0 for no limit.
        top_k=_positive(fields.integer("top_k", -1)),
        top_p=top_p or None,
        typical_p=typical_p if typical_p and typical_p < 1 else None,
        min_p=within(fields, "min_p", 0, 1),
        repetition_penalty=repetition_penalty,
        frequency_penalty=within(fields, "frequency_penalty", -2, 2) or 0.0,
        presence_penalty=within(fields, "presence_penalty", -2, 2) or 0.0,
        logit_bias=read_logit_bias(fields),
        seed=None if seed in (None, -1) else seed % _SEEDS,
    )


def read_logit_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    """Token ids with what is added to their logits. A list is accepted and ignored, as TGI does.

    Raises:
        ValidationFailed: Not an object of token ids to numbers from -100 to 100.
    """
    biases = fields.raw("logit_bias")
    if biases is None or isinstance(biases, list):
        return ()
    if not isinstance(biases, Mapping) or len(biases) > _MAX_BIASES:
        raise ValidationFailed(
            f"`logit_bias` must be an object of at most {_MAX_BIASES} token ids and numbers"
        )
    found = []
    for text in biases:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ValidationFailed("`logit_bias` must have token ids as its keys")
        bias = within(Fields(biases), text, -_LARGEST_BIAS, _LARGEST_BIAS)
        found.append((int(text), bias or 0.0))
    return tuple(found)


def within(fields: Fields, name: str, lowest: float, highest: float) -> float | None:
    """A number in a closed range.

    Raises:
        ValidationFailed: It is outside.
    """
    value = fields.number(name)
    if value is not None and not lowest <= value <= highest:
        raise ValidationFailed(f"`{name}` must be >= {lowest} and <= {highest}. Given: {value}")
    return value


def _positive(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None
