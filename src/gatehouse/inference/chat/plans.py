"""A job and the model that runs it, brought together: the engine's request, and how to read it."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from gatehouse.engines.base import ChatTraits, GenerationRequest
from gatehouse.inference.chat.bound_calls import BoundCalls
from gatehouse.inference.chat.dialects import Dialect, dialect_of
from gatehouse.inference.chat.free_calls import MAX_CALLS, FreeCalls
from gatehouse.inference.chat.grammars import (
    MAX_BOUND_CALLS,
    BoundAnswer,
    ThoughtBounds,
    build_grammar,
)
from gatehouse.inference.chat.jobs import ChatJob
from gatehouse.inference.chat.prompts import chat_prompt
from gatehouse.inference.chat.reasoning import ReasoningSplitter
from gatehouse.inference.chat.tools import ToolChoice, ToolMode

_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Manner:
    """How one model writes.

    Attributes:
        token_ids: Of its markers that are tokens of their own.
    """

    traits: ChatTraits
    token_ids: Mapping[str, int]


def markers_of(traits: ChatTraits) -> tuple[str, ...]:
    """All texts that have a meaning in the model's answers."""
    thought = (traits.reasoning_start, traits.reasoning_end)
    return (*dialect_of(traits.tool_markup).markers, *filter(None, thought))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask of the engine, and how to read what it answers.

    Attributes:
        markers: Special tokens whose names belong to the text; others are left out of it.
        calls_are_bound: A grammar holds the model to the calls that it begins.
    """

    request: GenerationRequest
    dialect: Dialect
    choice: ToolChoice
    calls_are_bound: bool
    thought: ThoughtBounds | None
    markers: frozenset[str]

    def nth_request(self, number: int) -> GenerationRequest:
        """The request for one of several choices: each has a seed of its own."""
        sampling = self.request.sampling
        if number == 0 or sampling.seed is None:
            return self.request
        seed = (sampling.seed + number) % _SEEDS
        return msgspec.structs.replace(
            self.request, sampling=msgspec.structs.replace(sampling, seed=seed)
        )

    def new_splitter(self) -> ReasoningSplitter | None:
        if self.thought is None:
            return None
        thought = self.thought
        return ReasoningSplitter(thought.start, thought.end, is_open=thought.is_open)

    def new_call_reader(self) -> FreeCalls | BoundCalls | None:
        if not self.choice.is_offered:
            return None
        if self.calls_are_bound:
            return BoundCalls(self.dialect)
        names = frozenset(tool.name for tool in self.choice.allowed)
        return FreeCalls(self.dialect, names, MAX_CALLS if self.choice.may_repeat else 1)


def make_plan(job: ChatJob, manner: Manner) -> Plan:
    """Plan a job for a model that writes in a certain manner.

    Raises:
        ValidationFailed: A regular expression cannot stand in a grammar.
    """
    traits = manner.traits
    dialect = dialect_of(traits.tool_markup)
    thought = _thought(job, traits)
    bound = _bound_answer(job, traits, dialect, thought)
    request = GenerationRequest(
        prompt=chat_prompt(job, traits.tool_markup),
        sampling=job.sampling,
        max_new_tokens=job.max_new_tokens,
        fit_to_context=job.fit_to_context,
        stop=job.stop,
        keep_stop=False,
        with_logprobs=job.with_logprobs,
        num_top_tokens=job.num_top_logprobs,
        grammar=None if bound is None else build_grammar(bound, manner.token_ids),
        show_special=job.tool_choice.is_offered or thought is not None,
        priority=job.priority,
    )
    return Plan(
        request=request,
        dialect=dialect,
        choice=job.tool_choice,
        calls_are_bound=bound is not None and bound.binds_calls,
        thought=thought,
        markers=frozenset(markers_of(traits)),
    )


def _thought(job: ChatJob, traits: ChatTraits) -> ThoughtBounds | None:
    if not traits.reasoning_start or not traits.reasoning_end:
        return None
    is_switched_off = any(not is_on for _, is_on in job.template_arguments)
    is_open = traits.opens_reasoning and not is_switched_off and not job.continues_last_message
    return ThoughtBounds(traits.reasoning_start, traits.reasoning_end, is_open)


def _bound_answer(
    job: ChatJob, traits: ChatTraits, dialect: Dialect, thought: ThoughtBounds | None
) -> BoundAnswer | None:
    """What a grammar must hold the model to; None if it may write what it likes."""
    choice, answer_format = job.tool_choice, job.answer_format
    max_calls = MAX_BOUND_CALLS if choice.may_repeat else 1
    if choice.mode is ToolMode.REQUIRED:
        return BoundAnswer(dialect, choice.allowed, max_calls=max_calls, thought=thought)
    if traits.binds_itself:
        return None if answer_format is None else BoundAnswer(dialect, (), answer_format)
    if answer_format is not None:
        tools = choice.tools if choice.is_offered else ()
        return BoundAnswer(dialect, tools, answer_format, max_calls=max_calls, thought=thought)
    if choice.is_offered and dialect.opening and any(tool.is_strict for tool in choice.tools):
        return BoundAnswer(
            dialect, choice.tools, may_be_text=True, max_calls=max_calls, thought=thought
        )
    return None
