"""Frequencies of rotary position embeddings (RoFormer, arXiv:2104.09864) and their extensions.

Pure numbers: knows neither graphs nor where the parameters are written.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class RotaryKind(StrEnum):
    """How frequencies are stretched for more context; the values are those of `rope_type`."""

    DEFAULT = "default"
    LINEAR = "linear"
    DYNAMIC = "dynamic"
    LLAMA3 = "llama3"
    YARN = "yarn"
    LONGROPE = "longrope"


@dataclass(frozen=True, slots=True)
class RotaryParameters:
    """What `config.json` says of a layer's rotary embedding.

    Attributes:
        kind: How the frequencies are stretched.
        theta: The base of the wavelengths.
        dim: How many of a head's values turn, from the first on; even.
        factor: How many times the context grew.
        context_length: The longest sequence that will be asked for.
        original_context_length: What the model was trained with before it grew.
        attention_factor: What cosine and sine are multiplied by; None: as the kind says.
        low_frequency_factor: For `llama3`, as are the next.
        high_frequency_factor: Wavelengths between the two are blended.
        beta_fast: For `yarn`: turns in the original context above which nothing is stretched.
        beta_slow: For `yarn`: turns below which everything is.
        mscale: For `yarn`: with `mscale_all_dim`, gives the attention factor.
        mscale_all_dim: See `mscale`.
        truncate: For `yarn`: whether the borders are rounded to whole dimensions.
        short_factors: For `longrope`, of size `dim / 2`: within the original context.
        long_factors: For `longrope`, of size `dim / 2`: beyond it.
    """

    kind: RotaryKind
    theta: float
    dim: int
    factor: float = 1.0
    context_length: int = 0
    original_context_length: int = 0
    attention_factor: float | None = None
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RotaryTable:
    """What an angle is made of: a position times a frequency.

    Attributes:
        frequencies: In radians per position; of shape (dim / 2).
        attention_factor: What cosine and sine are multiplied by.
    """

    frequencies: NDArray[np.float32]
    attention_factor: float


def rotary_table(parameters: RotaryParameters) -> RotaryTable:
    """The frequencies for every position of a sequence of up to `context_length` tokens.

    Two kinds depend on how long a sequence is. `dynamic` changes nothing within the trained
    context, which nobody may pass here. `longrope` has two sets: if `context_length` passes the
    original one, the long set holds for all sequences, else the short one, so that keys that were
    kept stay right while a sequence grows.
    """
    places = np.arange(0, parameters.dim, 2, dtype=np.float64) / parameters.dim
    frequencies = parameters.theta**-places
    match parameters.kind:
        case RotaryKind.LINEAR:
            frequencies = frequencies / parameters.factor
        case RotaryKind.LLAMA3:
            frequencies = _llama3(parameters, frequencies)
        case RotaryKind.YARN:
            frequencies = _yarn(parameters, frequencies)
        case RotaryKind.LONGROPE:
            is_long = parameters.context_length > parameters.original_context_length
            factors = parameters.long_factors if is_long else parameters.short_factors
            frequencies = frequencies / np.array(factors)
        case RotaryKind.DEFAULT | RotaryKind.DYNAMIC:
            pass
    return RotaryTable(frequencies.astype(np.float32), _attention_factor(parameters))


def _llama3(parameters: RotaryParameters, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Long waves are stretched, short ones are not, and those between are blended (Llama 3.1)."""
    low, high = parameters.low_frequency_factor, parameters.high_frequency_factor
    turns = parameters.original_context_length * frequencies / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - share) * frequencies / parameters.factor + share * frequencies


def _yarn(parameters: RotaryParameters, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The blend of YaRN (arXiv:2309.00071, section 3.2), linear in the dimension."""

    def dimension_of(num_turns: float) -> float:
        wavelength = parameters.original_context_length / (num_turns * 2 * math.pi)
        return parameters.dim * math.log(wavelength) / (2 * math.log(parameters.theta))

    low, high = dimension_of(parameters.beta_fast), dimension_of(parameters.beta_slow)
    if parameters.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, parameters.dim - 1)
    width = high - low if high != low else 0.001
    share = np.clip((np.arange(parameters.dim // 2) - low) / width, 0.0, 1.0)
    stretched = frequencies / parameters.factor
    blended: NDArray[np.float64] = frequencies + share * (stretched - frequencies)
    return blended


def _attention_factor(parameters: RotaryParameters) -> float:
    if parameters.kind not in (RotaryKind.YARN, RotaryKind.LONGROPE):
        return 1.0
    if parameters.attention_factor is not None:
        return parameters.attention_factor
    if parameters.factor <= 1.0:
        return 1.0
    growth = math.log(parameters.factor)
    if parameters.kind is RotaryKind.LONGROPE:
        return math.sqrt(1 + growth / math.log(parameters.original_context_length))
    if parameters.mscale and parameters.mscale_all_dim:
        return (0.1 * parameters.mscale * growth + 1) / (
            0.1 * parameters.mscale_all_dim * growth + 1
        )
    return 0.1 * growth + 1
