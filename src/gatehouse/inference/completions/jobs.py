"""Bodies of completions to jobs. Names of text-generation-inference are taken at the root too."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gatehouse.engines.base import (
    GenerationRequest,
    InfillPrompt,
    Prompt,
    SamplingParams,
    TextPrompt,
    TokensPrompt,
)
from gatehouse.inference.chat.sampling import read_sampling
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.grammars import read_grammar
from gatehouse.inference.json_fields import Fields, is_token_ids
from gatehouse.inference.parameters import MAX_BATCH, MAX_RETURN_SEQUENCES, read_stop

MAX_LOGPROBS = 20
_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class CompletionJob:
    """A validated body.

    Attributes:
        prompts: At most four.
        request: For the first prompt; the others differ in nothing else.
        num_choices: Answers for each prompt.
        best_of: Sequences for each prompt, of which the likeliest are answered.
        echo: The prompt comes first in the answer.
        num_logprobs: How many alternatives are reported; None for no log-probabilities at all.
        with_details: The last chunk of a stream carries details, for clients that read TGI's keys.
    """

    prompts: tuple[Prompt, ...]
    request: GenerationRequest
    num_choices: int
    best_of: int
    echo: bool
    num_logprobs: int | None
    is_stream: bool
    include_usage: bool
    with_details: bool

    @property
    def num_new_tokens(self) -> int:
        """At most so many tokens are generated for all its sequences."""
        return self.request.max_new_tokens * len(self.prompts) * self.best_of

    @property
    def num_characters(self) -> int:
        """Of the prompts that are text."""
        return sum(_num_characters(prompt) for prompt in self.prompts)

    def without_priority(self) -> "CompletionJob":
        """The same for everybody who may run the model."""
        return replace(self, request=msgspec.structs.replace(self.request, priority=0))

    def requests(self) -> list[GenerationRequest]:
        """One for each sequence, those of a prompt together; each has a seed of its own."""
        return [
            msgspec.structs.replace(
                self.request, prompt=prompt, sampling=_nth(self.request.sampling, number)
            )
            for prompt in self.prompts
            for number in range(self.best_of)
        ]


def parse_completion(
    body: Mapping[str, Any], max_new_tokens_cap: int, priority: int = 0
) -> CompletionJob:
    """Read a completion's body; unknown keys are ignored, null means absent.

    Raises:
        ValidationFailed: The first field that is wrong.
    """
    fields = Fields(body)
    is_stream = fields.boolean("stream")
    prompts = _prompts(fields)
    num_choices, best_of = _numbers(fields, is_stream=is_stream)
    echo = fields.boolean("echo")
    num_logprobs = _num_logprobs(fields)
    wanted = _max_tokens(fields, max_new_tokens_cap, echo=echo)
    is_infilled = isinstance(prompts[0], InfillPrompt)
    if echo and is_infilled and num_logprobs is not None:
        raise ValidationFailed("`echo` with `logprobs` is not supported with a `suffix`")
    # The text of token ids is known to the model's host alone.
    is_tokens = any(isinstance(prompt, TokensPrompt) for prompt in prompts)
    stream_options = fields.raw("stream_options")
    request = GenerationRequest(
        prompt=prompts[0],
        sampling=_sampling(fields),
        max_new_tokens=max_new_tokens_cap if wanted is None else wanted,
        fit_to_context=wanted is None,
        stop=read_stop(fields),
        keep_stop=False,
        # The likeliest of several are found by them.
        with_logprobs=num_logprobs is not None or best_of > num_choices,
        num_top_tokens=num_logprobs or 0,
        # Nothing to generate is a request to score the prompt.
        prompt_details=echo and (num_logprobs is not None or is_tokens or wanted == 0),
        grammar=_grammar(fields),
        priority=priority,
    )
    return CompletionJob(
        prompts=prompts,
        request=request,
        num_choices=num_choices,
        best_of=best_of,
        echo=echo,
        num_logprobs=num_logprobs,
        is_stream=is_stream,
        include_usage=isinstance(stream_options, Mapping)
        and stream_options.get("include_usage") is True,
        with_details=fields.boolean("details"),
    )


def _prompts(fields: Fields) -> tuple[Prompt, ...]:
    """One text, one list of token ids, or a list of either."""
    value = fields.raw("prompt")
    truncate = fields.integer("truncate", 1)
    items = value if isinstance(value, list) and not is_token_ids(value) else [value]
    if len(items) > MAX_BATCH:
        raise ValidationFailed(
            f"Number of prompts exceeds the maximum allowed batch size of {MAX_BATCH}"
        )
    if not items:
        raise ValidationFailed("`prompt` cannot be empty")
    prompts = [_prompt(item, truncate) for item in items]
    suffix = fields.raw("suffix")
    if suffix in (None, ""):
        return tuple(prompts)
    if not isinstance(suffix, str):
        raise ValidationFailed("`suffix` must be a string")
    if not all(isinstance(item, str) for item in items):
        raise ValidationFailed("`suffix` needs a `prompt` that is text")
    return tuple(InfillPrompt(item, suffix) for item in items)


def _prompt(item: Any, truncate: int | None) -> Prompt:
    if isinstance(item, str) and item:
        return TextPrompt(item, truncate)
    if isinstance(item, list) and is_token_ids(item):
        ids = item if truncate is None else item[-truncate:]
        return TokensPrompt(tuple(ids))
    if item in ("", []):
        raise ValidationFailed("`prompt` cannot be empty")
    raise ValidationFailed(
        "`prompt` must be a string, a list of strings, or lists of token ids from 0 to 2147483647"
    )


def _numbers(fields: Fields, *, is_stream: bool) -> tuple[int, int]:
    """`n` and `best_of`."""
    num_choices = fields.integer("n", 1, MAX_RETURN_SEQUENCES) or 1
    best_of = fields.integer("best_of")
    if best_of is None:
        return num_choices, num_choices
    if not 0 < best_of <= MAX_RETURN_SEQUENCES:
        raise ValidationFailed(
            f"`best_of` must be > 0 and <= {MAX_RETURN_SEQUENCES}. Given: {best_of}"
        )
    if best_of < num_choices:
        # Many programs send 1 with every request.
        if best_of == 1:
            return num_choices, num_choices
        raise ValidationFailed(f"`best_of` must be >= `n`, which is {num_choices}")
    if best_of > num_choices and is_stream:
        raise ValidationFailed("`best_of` != 1 is not supported when streaming tokens")
    return num_choices, best_of


def _num_logprobs(fields: Fields) -> int | None:
    """A number here, though some clients send the boolean of chat completions."""
    value = fields.raw("logprobs")
    if isinstance(value, bool):
        return 1 if value else None
    return fields.integer("logprobs", 0, MAX_LOGPROBS)


def _max_tokens(fields: Fields, cap: int, *, echo: bool) -> int | None:
    """None where the caller names no bound; 0 asks for the prompt alone."""
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens"):
        wanted = fields.integer(name)
        if wanted is None:
            continue
        if wanted < 0 or (wanted == 0 and not echo):
            raise ValidationFailed(f"`{name}` must be strictly positive, or 0 with `echo`")
        if wanted > cap:
            raise ValidationFailed(f"`{name}` must be <= {cap} on your plan. Given: {wanted}")
        return wanted
    return None


def _sampling(fields: Fields) -> SamplingParams:
    sampling = read_sampling(fields)
    if not fields.boolean("do_sample", default=True):
        return msgspec.structs.replace(sampling, do_sample=False)
    return sampling


def _grammar(fields: Fields) -> Any:
    """Either name; other servers know `response_format` on this route."""
    grammar = read_grammar(fields.raw("grammar"))
    return grammar or read_grammar(fields.raw("response_format"), needs_properties=False)


def _nth(sampling: SamplingParams, number: int) -> SamplingParams:
    if sampling.seed is None:
        return sampling
    return msgspec.structs.replace(sampling, seed=(sampling.seed + number) % _SEEDS)


def _num_characters(prompt: Prompt) -> int:
    if isinstance(prompt, TextPrompt):
        return len(prompt.text)
    return len(prompt.prefix) + len(prompt.suffix) if isinstance(prompt, InfillPrompt) else 0
