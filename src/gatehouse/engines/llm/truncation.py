"""Which tokens sampling may take: temperature, then top-k, top-p and their like.

Same meaning and order as the warpers of `transformers.generate`, computed in float32 as there: as
many tokens are kept, of the same scores. A filter says of scores which of them stay, at least one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.llm.generation_defaults import HIGHEST_TEMPERATURE, GenerationDefaults
from gatehouse.engines.llm.likeliest import indices_of_largest

Filter = Callable[[NDArray[np.float32]], NDArray[np.bool_]]

# Below this a temperature only makes float32 overflow: the likeliest token has all the probability
# already.
LOWEST_TEMPERATURE: Final = 1e-5
# Scores this close may become equal when they are divided: some units in the last place.
_ROUNDING: Final = 1e-6
# So many scores are sorted faster than the hopeless ones among them are found.
_FEW: Final = 512


@dataclass(frozen=True, slots=True)
class Truncation:
    """What sampling does to a row of scores.

    Attributes:
        top_k: 0 keeps all.
        filters: What comes after top-k, in order.
    """

    temperature: float = 1.0
    top_k: int = 0
    filters: tuple[Filter, ...] = ()

    def apply(
        self, row: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
        """The tokens that are left, ascending (None: all of them), and their scores.

        Args:
            row: Of a vocabulary; not changed. No NaN, and the largest is finite, by the
                temperature too.
        """
        ids, scores = None, row
        if 0 < self.top_k < len(row):
            slack = _ROUNDING if self.temperature != 1 else 0.0
            ids = indices_of_largest(row, self.top_k, slack)
            scores = row[ids]
        if self.temperature != 1:
            scores = scores / np.float32(self.temperature)
        if ids is not None and len(ids) > self.top_k:
            last = np.partition(scores, len(scores) - self.top_k)[len(scores) - self.top_k]
            ids, scores = _only(scores >= last, ids, scores)
        for keep in self.filters:
            ids, scores = _only(keep(scores), ids, scores)
        return ids, scores


def truncation(params: SamplingParams, defaults: GenerationDefaults) -> Truncation:
    """What a request asks for, and the model's own values where it does not say."""

    def value(name: str) -> float:
        given: float | None = getattr(params, name)
        return float(getattr(defaults, name) if given is None else given)

    filters: list[Filter] = []
    if value("top_p") < 1:
        filters.append(partial(keep_top_p, top_p=value("top_p")))
    if value("min_p") > 0:
        filters.append(partial(keep_min_p, min_p=min(value("min_p"), 1.0)))
    if value("typical_p") < 1:
        filters.append(partial(keep_typical, mass=value("typical_p")))
    if 0 < defaults.epsilon_cutoff < 1:
        filters.append(partial(keep_epsilon, epsilon=defaults.epsilon_cutoff))
    if 0 < defaults.eta_cutoff < 1:
        filters.append(partial(keep_eta, epsilon=defaults.eta_cutoff))
    temperature = min(max(value("temperature"), LOWEST_TEMPERATURE), HIGHEST_TEMPERATURE)
    return Truncation(temperature, int(value("top_k")), tuple(filters))


def keep_top_p(scores: NDArray[np.float32], top_p: float) -> NDArray[np.bool_]:
    """The likeliest tokens that have at least `top_p` of the probability together.

    "The Curious Case of Neural Text Degeneration" (arXiv 1904.09751). Of equals at the border
    those of lower ids are kept (in `transformers` it depends on the processor's way of sorting).
    """
    probabilities = softmax(scores)
    rest = np.float32(1 - top_p)
    found, tail = probabilities, 0.0
    if len(scores) > _FEW:
        # As many tokens as there are, each below this, have less than `rest` together.
        found = probabilities[probabilities >= rest / np.float32(len(scores)) * np.float32(0.99)]
        tail = float(probabilities.sum(dtype=np.float64) - found.sum(dtype=np.float64))
    ascending = np.sort(found)
    sums = (np.cumsum(ascending, dtype=np.float64) + tail).astype(np.float32)
    num_dropped = min(int(np.searchsorted(sums, rest, "right")), len(sums) - 1)
    border = ascending[num_dropped]
    keep: NDArray[np.bool_] = probabilities >= border
    num_equals_dropped = num_dropped - int(np.searchsorted(ascending, border))
    if num_equals_dropped:
        keep[np.flatnonzero(probabilities == border)[-num_equals_dropped:]] = False
    return keep


def keep_min_p(scores: NDArray[np.float32], min_p: float) -> NDArray[np.bool_]:
    """Tokens at least `min_p` times as likely as the likeliest (arXiv 2407.01082)."""
    probabilities = softmax(scores)
    keep: NDArray[np.bool_] = probabilities >= min_p * probabilities.max()
    return keep


def keep_typical(scores: NDArray[np.float32], mass: float) -> NDArray[np.bool_]:
    """Tokens whose surprise is nearest to the entropy, until they have `mass` together.

    "Locally Typical Sampling" (arXiv 2202.00666). Among equals at the border all are kept.
    """
    probabilities = softmax(scores)
    surprise = -_log_softmax(scores)
    distances = np.abs(surprise - _entropy(probabilities, surprise))
    order = np.argsort(distances)
    sums = np.cumsum(probabilities[order], dtype=np.float64).astype(np.float32)
    last = min(int(np.count_nonzero(sums < np.float32(mass))), len(order) - 1)
    keep: NDArray[np.bool_] = distances <= distances[order[last]]
    return keep


def keep_epsilon(scores: NDArray[np.float32], epsilon: float) -> NDArray[np.bool_]:
    """Tokens with a probability of at least `epsilon`, or the likeliest (arXiv 2210.15191)."""
    keep: NDArray[np.bool_] = (softmax(scores) >= epsilon) | (scores == scores.max())
    return keep


def keep_eta(scores: NDArray[np.float32], epsilon: float) -> NDArray[np.bool_]:
    """As `keep_epsilon`, but with a lower border where the entropy is high (arXiv 2210.15191)."""
    entropy = _entropy(softmax(scores), -_log_softmax(scores))
    return keep_epsilon(scores, min(epsilon, float(np.sqrt(epsilon) * np.exp(-entropy))))


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities; the largest score is finite."""
    weights = exponentials(scores)
    weights /= np.float32(weights.sum(dtype=np.float64))
    return weights


def exponentials(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities up to a factor: the likeliest has 1."""
    weights: NDArray[np.float32] = scores - scores.max()
    np.exp(weights, out=weights)
    return weights


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted: NDArray[np.float32] = scores - scores.max()
    shifted -= np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
    return shifted


def _entropy(probabilities: NDArray[np.float32], surprise: NDArray[np.float32]) -> np.float32:
    """In nats; what is impossible adds nothing."""
    terms = np.zeros_like(probabilities)
    np.multiply(probabilities, surprise, out=terms, where=probabilities > 0)
    return np.float32(terms.sum())


def _only(
    keep: NDArray[np.bool_], ids: NDArray[np.int64] | None, scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
    if keep.all():
        return ids, scores
    places = np.flatnonzero(keep)
    return places if ids is None else ids[places], scores[places]
