"""Bodies of the text-generation surface to generation requests.

Validation in the order of text-generation-inference, and in its very sentences: clients match on
them. Limits that need the tokenizer are checked later, by the model's host.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gatehouse.core.errors import Invalid
from gatehouse.engines.base import GenerationRequest, SamplingParams, TextPrompt
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.grammars import read_grammar
from gatehouse.inference.json_fields import Fields

MAX_BEST_OF = 2
MAX_STOP_SEQUENCES = 4
MAX_STOP_CHARACTERS = 1000
MAX_TOP_TOKENS = 5
MAX_BATCH = 4
MAX_RETURN_SEQUENCES = 10
MAX_SECONDS = 120
_UNSIGNED_64 = 2**64
_CONVERSATIONAL_KEYS = frozenset({"text", "past_user_inputs", "generated_responses"})


class ConversationalRemoved(Invalid):
    """The body is one of the `conversational` task, which is no more."""

    def __init__(self) -> None:
        super().__init__(
            "`inputs` must be a string. The task `conversational` is gone: send `messages` to "
            "`/v1/chat/completions`."
        )


@dataclass(frozen=True, slots=True)
class RouteDefaults:
    """What a route assumes for parameters that are absent.

    Attributes:
        whole_answer: As many new tokens as the model says by itself, at most `max_new_tokens`.
    """

    max_new_tokens: int
    return_full_text: bool
    whole_answer: bool = False


@dataclass(frozen=True, slots=True)
class TextGenerationJob:
    """A validated body.

    Attributes:
        prompts: One, or several if `inputs` was a list.
        request: For the first prompt; the others differ in nothing else.
        num_sequences: Answers for each prompt.
        best_of: Of so many sequences the likeliest is answered.
        with_details: The answer carries details.
    """

    prompts: tuple[str, ...]
    request: GenerationRequest
    is_batch: bool
    num_sequences: int
    best_of: int
    return_full_text: bool
    with_details: bool

    @property
    def num_new_tokens(self) -> int:
        """At most so many tokens are generated for all its sequences."""
        num_sequences = len(self.prompts) * self.num_sequences * self.best_of
        return self.request.max_new_tokens * num_sequences

    @property
    def cache_parts(self) -> Any:
        """The same for everybody who may run the model: the plan's priority is left out."""
        request = msgspec.structs.replace(self.request, priority=0)
        parts = (self.prompts, request, self.is_batch, self.num_sequences, self.best_of)
        return (parts, self.return_full_text, self.with_details)


def parse_text_generation(
    body: Mapping[str, Any],
    defaults: RouteDefaults,
    max_new_tokens_cap: int,
    *,
    is_stream: bool,
    priority: int = 0,
) -> TextGenerationJob:
    """Read `{"inputs": ..., "parameters": {...}}`; unknown keys are ignored, null means absent.

    Args:
        body: The JSON object that was sent.
        defaults: Those of the route.
        max_new_tokens_cap: What the caller's plan allows.
        is_stream: Whether the answer will be streamed.
        priority: Of the requests, see `GenerationRequest`.

    Raises:
        ValidationFailed: The first rule that is broken.
    """
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValidationFailed("`parameters` must be an object")
    fields = Fields(parameters or {})
    best_of = _best_of(fields, is_stream=is_stream)
    prompt_details = _prompt_details(fields, is_stream=is_stream)
    sampling = _sampling(fields)
    max_new_tokens = _max_new_tokens(fields, max_new_tokens_cap)
    stop = read_stop(fields)
    sampling = _with_seed(fields, sampling, best_of)
    num_top_tokens = _top_n_tokens(fields)
    prompts = _prompts(body)
    fields.boolean("watermark")  # accepted, and without effect
    read_adapter_id(fields)
    with_details = fields.boolean("details") or prompt_details
    request = GenerationRequest(
        prompt=TextPrompt(prompts[0], fields.integer("truncate")),
        sampling=sampling,
        max_new_tokens=max_new_tokens or min(defaults.max_new_tokens, max_new_tokens_cap),
        fit_to_context=max_new_tokens is None,
        whole_answer=defaults.whole_answer and max_new_tokens is None,
        max_total_tokens=fields.integer("max_length", 1),
        max_seconds=_max_seconds(fields),
        stop=stop,
        # Every event of a stream tells them.
        with_logprobs=is_stream or with_details or best_of > 1,
        num_top_tokens=num_top_tokens,
        prompt_details=prompt_details,
        grammar=read_grammar(fields.raw("grammar")),
        priority=priority,
    )
    if request.max_total_tokens is not None and max_new_tokens is None:
        request = _by_total_length(request, max_new_tokens_cap)
    if is_stream and len(prompts) > 1:
        raise ValidationFailed("`inputs` must be a string when streaming tokens")
    return TextGenerationJob(
        prompts=prompts,
        request=request,
        is_batch=isinstance(body["inputs"], list),
        num_sequences=_num_sequences(fields, is_stream=is_stream),
        best_of=best_of,
        return_full_text=fields.boolean("return_full_text", default=defaults.return_full_text),
        with_details=with_details,
    )


def _best_of(fields: Fields, *, is_stream: bool) -> int:
    best_of = fields.integer("best_of")
    if best_of is None or best_of == 1:
        return 1
    if is_stream:
        raise ValidationFailed("`best_of` != 1 is not supported when streaming tokens")
    if not 0 < best_of <= MAX_BEST_OF:
        raise ValidationFailed(f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {best_of}")
    named = ("temperature", "top_k", "top_p", "typical_p")
    if not fields.boolean("do_sample") and all(fields.raw(name) is None for name in named):
        raise ValidationFailed("you must use sampling when `best_of` is > 1")
    return best_of


def _prompt_details(fields: Fields, *, is_stream: bool) -> bool:
    is_wanted = fields.boolean("decoder_input_details")
    if is_wanted and is_stream:
        raise ValidationFailed(
            "`decoder_input_details` == true is not supported when streaming tokens"
        )
    return is_wanted


def _sampling(fields: Fields) -> SamplingParams:
    """Greedy unless sampling is asked for, by `do_sample` or by a parameter that implies it.

    `temperature` 0 is greedy here, although text-generation-inference refuses it.
    """
    temperature = fields.number("temperature")
    if temperature is not None and temperature < 0:
        raise ValidationFailed("`temperature` must be strictly positive")
    repetition_penalty = fields.number("repetition_penalty")
    if repetition_penalty is not None and repetition_penalty <= 0:
        raise ValidationFailed("`repetition_penalty` must be strictly positive")
    frequency_penalty = fields.number("frequency_penalty") or 0.0
    if not -2 <= frequency_penalty <= 2:
        raise ValidationFailed("`frequency_penalty` must be >= -2.0 and <= 2.0")
    top_p = _probability(fields, "top_p")
    typical_p = _probability(fields, "typical_p")
    top_k = fields.integer("top_k")
    if top_k is not None and top_k <= 0:
        raise ValidationFailed("`top_k` must be strictly positive")
    is_implied = temperature not in (None, 1.0) or not top_k is top_p is typical_p is None
    return SamplingParams(
        do_sample=(fields.boolean("do_sample") or is_implied) and temperature != 0,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        typical_p=typical_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        min_length=fields.integer("min_length", 0),
    )


def _probability(fields: Fields, name: str) -> float | None:
    value = fields.number(name)
    if value is not None and not 0 < value < 1:
        raise ValidationFailed(f"`{name}` must be > 0.0 and < 1.0")
    return value


def _max_new_tokens(fields: Fields, cap: int) -> int | None:
    value = fields.integer("max_new_tokens")
    if value is not None and value <= 0:
        raise ValidationFailed("`max_new_tokens` must be strictly positive")
    if value is not None and value > cap:
        raise ValidationFailed(f"`max_new_tokens` must be <= {cap} on your plan. Given: {value}")
    return value


def read_adapter_id(fields: Fields) -> str | None:
    """The repository of the adapter that the model is to be run with.

    Raises:
        ValidationFailed: It is no name.
    """
    value = fields.raw("adapter_id")
    if value is not None and not (isinstance(value, str) and "/" in value):
        raise ValidationFailed("`adapter_id` must name a repository, such as `org/name`")
    return value


def read_stop(fields: Fields) -> tuple[str, ...]:
    """The texts that end a sequence.

    Raises:
        ValidationFailed: Too many, or too long.
    """
    stop = [text for name in ("stop", "stop_sequences") for text in fields.strings(name) if text]
    if len(stop) > MAX_STOP_SEQUENCES:
        raise ValidationFailed(
            f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {len(stop)}"
        )
    if any(len(text) > MAX_STOP_CHARACTERS for text in stop):
        raise ValidationFailed(f"`stop` texts may have at most {MAX_STOP_CHARACTERS} characters")
    return tuple(stop)


def _with_seed(fields: Fields, sampling: SamplingParams, best_of: int) -> SamplingParams:
    seed = fields.integer("seed", 0, _UNSIGNED_64 - 1)
    if seed is None:
        return sampling
    if best_of > 1:
        raise ValidationFailed("`seed` must not be set when `best_of` > 1")
    return msgspec.structs.replace(sampling, seed=seed)


def _top_n_tokens(fields: Fields) -> int:
    value = fields.integer("top_n_tokens") or 0
    if not 0 <= value <= MAX_TOP_TOKENS:
        raise ValidationFailed(
            f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_TOKENS}. Given: {value}"
        )
    return value


def _prompts(body: Mapping[str, Any]) -> tuple[str, ...]:
    inputs = body.get("inputs")
    if isinstance(inputs, Mapping) and inputs.keys() & _CONVERSATIONAL_KEYS:
        raise ConversationalRemoved
    prompts = inputs if isinstance(inputs, list) else [inputs]
    if inputs is None or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValidationFailed("`inputs` must be a string")
    if not prompts or not all(prompts):
        raise ValidationFailed("`inputs` cannot be empty")
    if len(prompts) > MAX_BATCH:
        raise ValidationFailed(f"batch size {len(prompts)} > maximum batch size {MAX_BATCH}")
    return tuple(prompts)


def _max_seconds(fields: Fields) -> float | None:
    value = fields.number("max_time")
    if value is not None and not 0 <= value <= MAX_SECONDS:
        raise ValidationFailed(f"`max_time` must be >= 0 and <= {MAX_SECONDS}. Given: {value}")
    return value


def _by_total_length(request: GenerationRequest, cap: int) -> GenerationRequest:
    """The older `max_length` alone decides how many new tokens there are."""
    return msgspec.structs.replace(request, max_new_tokens=cap)


def _num_sequences(fields: Fields, *, is_stream: bool) -> int:
    value = fields.integer("num_return_sequences")
    if value is None:
        return 1
    if not 1 <= value <= MAX_RETURN_SEQUENCES:
        raise ValidationFailed(
            f"`num_return_sequences` must be >= 1 and <= {MAX_RETURN_SEQUENCES}. Given: {value}"
        )
    if is_stream and value != 1:
        raise ValidationFailed("`num_return_sequences` != 1 is not supported when streaming tokens")
    return value
