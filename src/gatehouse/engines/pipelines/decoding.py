"""One sequence's way through `transformers`: its cache, logits processors and random numbers.

What `generate` would prepare is prepared by `generate` itself, through its `custom_generate` hook:
the same defaults from `generation_config.json`, the same cache, the same processors in the same
order. Only the loop is ours, so that many sequences can take turns. Each forward pass has a batch
of one: a sequence gives the same tokens alone and in a crowd.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessorList

from gatehouse.engines.base import SamplingParams

# Below this a temperature only makes float32 overflow: the likeliest token has all the probability
# already.
_LOWEST_TEMPERATURE = 1e-5
_LOWEST_LOGPROB = -9999.0


class NumbersNotFinite(ArithmeticError):
    """The model's logits hold NaN, or nothing but minus infinity."""


class CountPenalty:
    """OpenAI's penalties: by how often, and whether at all, a token was generated."""

    def __init__(self, frequency: float, presence: float, num_prompt_tokens: int) -> None:
        self._frequency = frequency
        self._presence = presence
        self._num_prompt_tokens = num_prompt_tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        generated = input_ids[0, self._num_prompt_tokens :]
        counts = torch.bincount(generated, minlength=scores.shape[-1])[: scores.shape[-1]]
        penalty = counts * self._frequency + (counts > 0) * self._presence
        return scores - penalty.to(scores.dtype)


@dataclass(slots=True)
class Choice:
    """The token chosen in a step, with log-probabilities of the model before any processor."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(slots=True)
class DecodingState:
    """A sequence between two steps.

    Attributes:
        input_ids: Prompt and generated tokens, of shape (1, length).
        model_kwargs: What `forward` is called with besides the tokens; holds the key-value cache.
        eos_token_ids: Tokens that end the sequence.
    """

    input_ids: Any
    model_kwargs: dict[str, Any]
    processors: Any
    generator: Any
    eos_token_ids: frozenset[int]
    logits: Any = field(default=None)
    is_prefilled: bool = False


def prepare(
    model: Any,
    prompt_ids: list[int],
    sampling: SamplingParams,
    seed: int | None,
    max_new_tokens: int,
) -> DecodingState:
    """Let `generate` prepare a sequence, and take it over before its own loop begins.

    A `seed` means sampling; None decodes greedily.
    """
    captured: list[DecodingState] = []

    def take_over(
        model: Any,
        input_ids: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        eos = [ids for rule in stopping_criteria for ids in _eos_ids(rule)]
        model_kwargs.pop("synced_gpus", None)
        captured.append(
            DecodingState(input_ids, model_kwargs, logits_processor, None, frozenset(eos))
        )
        return input_ids

    input_ids = torch.tensor([prompt_ids], device=model.device)
    model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        custom_generate=take_over,
        max_new_tokens=max_new_tokens,
        do_sample=seed is not None,
        logits_processor=_extra_processors(sampling, len(prompt_ids)),
        **_overrides(sampling),
    )
    state = captured[0]
    if seed is not None:
        state.generator = torch.Generator(device=model.device).manual_seed(seed)
    return state


def prompt_logprobs(model: Any, prompt_ids: list[int]) -> list[float | None]:
    """Log-probability of every prompt token given those before it; None for the first."""
    input_ids = torch.tensor([prompt_ids], device=model.device)
    logits = model(input_ids=input_ids, use_cache=False, return_dict=True).logits[0, :-1]
    scores: list[float | None] = [None]
    for row, token_id in zip(logits, prompt_ids[1:], strict=True):
        scores.append(_finite(torch.log_softmax(row.float(), dim=-1)[token_id].item()))
    return scores


def choose_next(model: Any, state: DecodingState, num_top: int) -> Choice:
    """Run the model once and choose one token, which becomes part of `state`.

    Raises:
        NumbersNotFinite: The logits cannot be compared.
    """
    logits = _forward(model, state)
    logprobs = torch.log_softmax(logits, dim=-1)[0]
    scores = state.processors(state.input_ids, logits)
    if state.generator is None:
        next_id = torch.argmax(scores, dim=-1)
    else:
        probabilities = torch.softmax(scores, dim=-1)
        if not torch.isfinite(probabilities).all():
            raise NumbersNotFinite("the probabilities are not finite")
        next_id = torch.multinomial(probabilities, num_samples=1, generator=state.generator)[:, 0]
    state.input_ids = torch.cat([state.input_ids, next_id[:, None]], dim=-1)
    token_id = int(next_id.item())
    return Choice(token_id, _finite(logprobs[token_id].item()), _top(logprobs, num_top))


def _forward(model: Any, state: DecodingState) -> Any:
    """Logits of the next token, float32, of shape (1, vocabulary)."""
    inputs = model.prepare_inputs_for_generation(
        state.input_ids,
        next_sequence_length=1
        if state.is_prefilled and state.model_kwargs.get("use_cache")
        else None,
        is_first_iteration=not state.is_prefilled,
        **state.model_kwargs,
    )
    outputs = model(**inputs, return_dict=True)
    # The one private call: each architecture extends its positions, masks and caches there.
    state.model_kwargs = model._update_model_kwargs_for_generation(  # noqa: SLF001
        outputs, state.model_kwargs, is_encoder_decoder=False
    )
    state.is_prefilled = True
    return outputs.logits[:, -1].to(copy=True, dtype=torch.float32)


def _overrides(sampling: SamplingParams) -> dict[str, Any]:
    """What the caller said; `generate` takes the rest from the model's generation config."""
    given: dict[str, Any] = {
        "repetition_penalty": sampling.repetition_penalty,
        "min_length": sampling.min_length,
    }
    if sampling.do_sample:
        temperature = sampling.temperature
        given |= {
            "temperature": None if temperature is None else max(temperature, _LOWEST_TEMPERATURE),
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "typical_p": sampling.typical_p,
            "min_p": sampling.min_p,
        }
    return {name: value for name, value in given.items() if value is not None}


def _extra_processors(sampling: SamplingParams, num_prompt_tokens: int) -> Any:
    processors = LogitsProcessorList()
    if sampling.frequency_penalty or sampling.presence_penalty:
        processors.append(
            CountPenalty(sampling.frequency_penalty, sampling.presence_penalty, num_prompt_tokens)
        )
    return processors


def _eos_ids(rule: Any) -> list[int]:
    ids = getattr(rule, "eos_token_id", None)
    return [] if ids is None else [int(token_id) for token_id in ids]


def _top(logprobs: Any, num_top: int) -> list[tuple[int, float]]:
    if not num_top:
        return []
    values, indices = torch.topk(logprobs, min(num_top, logprobs.shape[-1]))
    return [
        (int(token_id), _finite(value))
        for token_id, value in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def _finite(logprob: float) -> float:
    """JSON has no infinity; NaN means that the model itself is broken."""
    if math.isnan(logprob):
        raise NumbersNotFinite("the model gave numbers that are not finite")
    return max(logprob, _LOWEST_LOGPROB)
