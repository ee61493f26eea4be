"""One sequence's way through `transformers`: its cache, logits processors and random numbers.

What `generate` would prepare is prepared by `generate` itself, through its `custom_generate` hook:
the same defaults from `generation_config.json`, the same cache, the same processors in the same
order. Only the loop is ours, so that many sequences can take turns. Each forward pass has a batch
of one: a sequence gives the same tokens alone and in a crowd.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.grammars.constraint import Constraint

# Below this a temperature only makes float32 overflow: the likeliest token has all the probability
# already.
_LOWEST_TEMPERATURE = 1e-5
# Beyond these a penalty has no more effect, and float32 overflows.
_LOWEST_PENALTY, _HIGHEST_PENALTY = 1e-5, 1e5
_LOWEST_LOGPROB = -9999.0


class NumbersNotFinite(ArithmeticError):
    """The model's logits hold NaN, or nothing but minus infinity."""


class LogitBias:
    """Adds to the logits of single tokens."""

    def __init__(self, biases: tuple[tuple[int, float], ...]) -> None:
        self._ids = torch.tensor([token_id for token_id, _ in biases])
        self._biases = torch.tensor([bias for _, bias in biases], dtype=torch.float32)

    def __call__(self, _input_ids: Any, scores: Any) -> Any:
        return scores.index_add(
            1, self._ids.to(scores.device), self._biases.to(scores.device)[None, :]
        )


class GrammarMask:
    """Leaves only the tokens that the grammar allows next.

    Args:
        constraint: Follows the sequence.
        forced_first: The first token is not to be chosen, and is no part of the text.
    """

    def __init__(self, constraint: Constraint, *, forced_first: bool) -> None:
        self._constraint = constraint
        self._forced_first = forced_first

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self.passes(input_ids):
            return scores
        allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
        mask = torch.frombuffer(self._constraint.allowed(), dtype=torch.uint8)
        num_known = min(len(mask), len(allowed))
        allowed[:num_known] = mask[:num_known] != 0
        return scores.masked_fill(~allowed.to(scores.device), -math.inf)

    def passes(self, input_ids: Any) -> bool:
        """Whether the next token is none of the grammar's."""
        return self._forced_first and int(input_ids.shape[1]) == 1

    def accept(self, token_id: int) -> None:
        self._constraint.accept(token_id)


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
class PromptScore:
    """Log-probability of a prompt's token, and of the likeliest ones; None for the first."""

    logprob: float | None
    top: list[tuple[int, float]]


@dataclass(slots=True)
class DecodingState:
    """A sequence between two steps.

    Attributes:
        input_ids: Prompt and generated tokens, of shape (1, length); of a decoder with an encoder,
            its start token and generated tokens.
        model_kwargs: What `forward` is called with besides the tokens; holds the key-value cache.
        eos_token_ids: Tokens that end the sequence.
        grammar: What the generated text follows.
    """

    input_ids: Any
    model_kwargs: dict[str, Any]
    processors: Any
    generator: Any
    eos_token_ids: frozenset[int]
    grammar: GrammarMask | None = None
    is_prefilled: bool = False


def prepare(
    model: Any,
    prompt_ids: list[int],
    sampling: SamplingParams,
    seed: int | None,
    max_new_tokens: int,
    constraint: Constraint | None = None,
    rules: Mapping[str, int] | None = None,
) -> DecodingState:
    """Let `generate` prepare a sequence, and take it over before its own loop begins.

    An encoder reads the prompt here. A `seed` means sampling; None decodes greedily. `rules` are
    more arguments of `generate`, weaker than what the caller said.
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
            DecodingState(input_ids, model_kwargs, logits_processor, None, frozenset(eos), grammar)
        )
        return input_ids

    input_ids = torch.tensor([prompt_ids], device=model.device)
    # A decoder with an encoder begins with its start token.
    num_before = 1 if model.config.is_encoder_decoder else len(prompt_ids)
    arguments = dict(rules or {}) | _overrides(sampling)
    arguments |= _feasible(model.generation_config, arguments, num_before, max_new_tokens)
    forced = arguments.get("forced_bos_token_id", model.generation_config.forced_bos_token_id)
    grammar = None
    if constraint is not None:
        is_forced = forced is not None and num_before == 1
        grammar = GrammarMask(constraint, forced_first=is_forced)
    model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        custom_generate=take_over,
        max_new_tokens=max_new_tokens,
        do_sample=seed is not None,
        logits_processor=_extra_processors(sampling, num_before, grammar),
        **arguments,
    )
    state = captured[0]
    if seed is not None:
        state.generator = torch.Generator(device=model.device).manual_seed(seed)
    return state


def score_prompt(model: Any, prompt_ids: list[int], num_top: int) -> list[PromptScore]:
    """How likely every prompt token was, given those before it."""
    input_ids = torch.tensor([prompt_ids], device=model.device)
    logits = model(input_ids=input_ids, use_cache=False, return_dict=True).logits[0, :-1]
    scores = [PromptScore(None, [])]
    for row, token_id in zip(logits, prompt_ids[1:], strict=True):
        logprobs = torch.log_softmax(row.float(), dim=-1)
        scores.append(PromptScore(_finite(logprobs[token_id].item()), _top(logprobs, num_top)))
    return scores


def choose_next(model: Any, state: DecodingState, num_top: int) -> Choice:
    """Run the model once and choose one token, which becomes part of `state`.

    Raises:
        NumbersNotFinite: The logits cannot be compared.
    """
    logits = _forward(model, state)
    logprobs = torch.log_softmax(logits, dim=-1)[0]
    scores = _constrained(state, logits, state.processors(state.input_ids, logits))
    if state.generator is None:
        next_id = torch.argmax(scores, dim=-1)
        if not scores[0, next_id] > -math.inf:  # NaN neither
            raise NumbersNotFinite("no token is left to choose")
    else:
        probabilities = torch.softmax(scores, dim=-1)
        if not torch.isfinite(probabilities).all():
            raise NumbersNotFinite("the probabilities are not finite")
        next_id = torch.multinomial(probabilities, num_samples=1, generator=state.generator)[:, 0]
    token_id = int(next_id.item())
    grammar = state.grammar
    if grammar and token_id not in state.eos_token_ids and not grammar.passes(state.input_ids):
        grammar.accept(token_id)
    state.input_ids = torch.cat([state.input_ids, next_id[:, None]], dim=-1)
    return Choice(token_id, _finite(logprobs[token_id].item()), _top(logprobs, num_top))


def _constrained(state: DecodingState, logits: Any, scores: Any) -> Any:
    """What the grammar allows of the scores, whatever other rules made of them.

    The mask was one of the rules already, ahead of top-k and its like. Should a rule have forbidden
    all that the grammar allows (no end yet, but nothing else may come), the grammar has it.
    """
    mask = state.grammar
    if mask is None or mask.passes(state.input_ids):
        return scores
    masked = mask(state.input_ids, scores)
    if (masked > -math.inf).any():
        return masked
    return mask(state.input_ids, logits)


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
        outputs, state.model_kwargs, is_encoder_decoder=model.config.is_encoder_decoder
    )
    state.is_prefilled = True
    return outputs.logits[:, -1].to(copy=True, dtype=torch.float32)


def _overrides(sampling: SamplingParams) -> dict[str, Any]:
    """What the caller said; `generate` takes the rest from the model's generation config."""
    penalty = sampling.repetition_penalty
    if penalty is not None:
        penalty = min(max(penalty, _LOWEST_PENALTY), _HIGHEST_PENALTY)
    given: dict[str, Any] = {
        "repetition_penalty": penalty,
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


def _feasible(
    defaults: Any, arguments: Mapping[str, Any], num_before: int, max_new_tokens: int
) -> dict[str, int]:
    """Least lengths that the most allows; `generate` warns of others, and they mean the same."""
    found = {}
    for name, most in (
        ("min_length", num_before + max_new_tokens),
        ("min_new_tokens", max_new_tokens),
    ):
        least = arguments.get(name, getattr(defaults, name))
        if least is not None and least > most:
            found[name] = most
    return found


def _extra_processors(
    sampling: SamplingParams, num_prompt_tokens: int, grammar: GrammarMask | None
) -> Any:
    """Rules of our own: after the penalties of `generate`, before temperature, top-k and top-p."""
    processors = LogitsProcessorList()
    if sampling.logit_bias:
        processors.append(LogitBias(sampling.logit_bias))
    if sampling.frequency_penalty or sampling.presence_penalty:
        processors.append(
            CountPenalty(sampling.frequency_penalty, sampling.presence_penalty, num_prompt_tokens)
        )
    if grammar is not None:
        processors.append(grammar)
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
