"""Runs text-generation jobs on model hosts and gives answers in the shapes of that surface.

Knows models as folders and callers not at all: gates, plans and caches come before it.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gatehouse.engines.base import (
    Finish,
    GeneratedToken,
    GenerationRequest,
    ScoredToken,
    SequenceOutput,
    Start,
    TextPrompt,
)
from gatehouse.inference.errors import HostLost
from gatehouse.inference.held_model import HeldModel
from gatehouse.inference.hosts import ModelHosts
from gatehouse.inference.messages import ModelSource
from gatehouse.inference.meter import Meter
from gatehouse.inference.parameters import TextGenerationJob

_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Target:
    """Which model to run, and how long to wait for it.

    Attributes:
        name: The repository's id, as answers give it.
        version: Changes with what the model would answer: the repository's internal id and the
            commit.
        source: Where it runs.
        meter: Counts everything that is generated for the call.
        may_load: False refuses a model that is not in memory.
    """

    name: str
    version: str
    source: ModelSource
    meter: Meter
    wait_seconds: float
    may_load: bool = True


@dataclass(slots=True)
class GeneratedSequence:
    """A whole sequence, put together from its steps."""

    tokens: list[GeneratedToken] = field(default_factory=list)
    start: Start | None = None
    finish: Finish | None = None

    def add(self, output: SequenceOutput) -> None:
        self.tokens.extend(output.tokens)
        self.start = output.start or self.start
        self.finish = output.finish

    @property
    def text(self) -> str:
        return "".join(generated.piece for generated in self.tokens)

    @property
    def num_prompt_tokens(self) -> int:
        return self.start.num_prompt_tokens if self.start else 0

    @property
    def mean_logprob(self) -> float:
        scores = [generated.token.logprob or 0.0 for generated in self.tokens]
        return sum(scores) / len(scores)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job gave, ready to be encoded, with the figures for the headers."""

    body: Any
    num_prompt_tokens: int
    num_generated_tokens: int


class TextGeneration:
    """The service that the web's routes call."""

    def __init__(self, hosts: ModelHosts) -> None:
        self._hosts = hosts

    async def outputs(
        self, target: Target, request: GenerationRequest
    ) -> AsyncGenerator[SequenceOutput]:
        """One sequence's outputs. A host that was lost before its first word is asked once more.

        Closing the generator cancels the sequence. Use with `contextlib.aclosing`.

        Raises:
            GatehouseError: See `ModelHosts.hold` and `HostConnection.generate`.
        """
        has_begun = False
        try:
            async with aclosing(self._attempt(target, request)) as outputs:
                async for output in outputs:
                    has_begun = True
                    yield output
        except HostLost:
            if has_begun:
                raise
        else:
            return
        async with aclosing(self._attempt(target, request)) as outputs:
            async for output in outputs:
                yield output

    async def sequence(self, target: Target, request: GenerationRequest) -> GeneratedSequence:
        """One whole sequence. Raises as `outputs` does."""
        sequence = GeneratedSequence()
        async with aclosing(self.outputs(target, request)) as outputs:
            async for output in outputs:
                sequence.add(output)
        return sequence

    async def run(self, target: Target, job: TextGenerationJob, *, as_list: bool) -> Answer:
        """The answer to a job that is not streamed.

        Args:
            target: The model.
            job: What to generate.
            as_list: One prompt's answer is a list of one, as on `/models/{id}`.
        """
        answers = []
        sequences: list[GeneratedSequence] = []
        for prompt in job.prompts:
            found = [
                await self._best(target, job, prompt, number) for number in range(job.num_sequences)
            ]
            sequences += [sequence for group in found for sequence in group]
            answers.append([_answer(job, prompt, group) for group in found])
        body: Any = answers if job.is_batch else answers[0]
        if not job.is_batch and not as_list:
            body = answers[0][0]
        return Answer(
            body,
            sum(sequence.num_prompt_tokens for sequence in sequences),
            sum(len(sequence.tokens) for sequence in sequences),
        )

    async def stream(
        self, target: Target, job: TextGenerationJob
    ) -> AsyncGenerator[dict[str, Any]]:
        """Events, one a token. Use with `contextlib.aclosing`."""
        sequence = GeneratedSequence()
        async with aclosing(self.outputs(target, job.request)) as outputs:
            async for output in outputs:
                sequence.add(output)
                for generated in output.tokens:
                    is_last = output.is_last and generated is output.tokens[-1]
                    yield _event(job, sequence, generated, is_last=is_last)

    def hold(self, target: Target) -> AbstractAsyncContextManager[HeldModel]:
        """The target's model, for more than one question. See `ModelProvider.hold`."""
        return self._hosts.hold(target.source, target.wait_seconds, may_load=target.may_load)

    async def _attempt(
        self, target: Target, request: GenerationRequest
    ) -> AsyncGenerator[SequenceOutput]:
        async with self.hold(target) as model, aclosing(model.generate(request)) as outputs:
            async for output in outputs:
                target.meter.record(output)
                yield output

    async def _best(
        self, target: Target, job: TextGenerationJob, prompt: str, number: int
    ) -> list[GeneratedSequence]:
        """`best_of` sequences, the likeliest first."""
        sequences = [
            await self.sequence(target, _nth_request(job, prompt, number))
            for _ in range(job.best_of)
        ]
        return sorted(sequences, key=lambda sequence: -sequence.mean_logprob)


def _nth_request(job: TextGenerationJob, prompt: str, number: int) -> GenerationRequest:
    """The request for one of several sequences: each has a seed of its own."""
    template = job.request.prompt
    assert isinstance(template, TextPrompt)
    sampling = job.request.sampling
    if sampling.seed is not None:
        sampling = msgspec.structs.replace(sampling, seed=(sampling.seed + number) % _SEEDS)
    return msgspec.structs.replace(
        job.request, prompt=TextPrompt(prompt, template.truncate), sampling=sampling
    )


def _answer(
    job: TextGenerationJob, prompt: str, sequences: list[GeneratedSequence]
) -> dict[str, Any]:
    best = sequences[0]
    answer: dict[str, Any] = {"generated_text": _full_text(job, prompt, best)}
    if job.with_details:
        answer["details"] = details = _details(best)
        if job.best_of > 1:
            details["best_of_sequences"] = [
                {"generated_text": _full_text(job, prompt, other)} | _details(other)
                for other in sequences[1:]
            ]
    return answer


def _details(sequence: GeneratedSequence) -> dict[str, Any]:
    assert sequence.start is not None
    assert sequence.finish is not None
    details: dict[str, Any] = {
        "finish_reason": sequence.finish.reason,
        "generated_tokens": sequence.finish.num_generated_tokens,
        "seed": sequence.start.seed,
        "prefill": [
            {"id": token.id, "text": token.text, "logprob": token.logprob}
            for token in sequence.start.prompt_tokens
        ],
        "tokens": [_generated(generated) for generated in sequence.tokens],
    }
    if any(generated.top for generated in sequence.tokens):
        details["top_tokens"] = [
            [_scored(token) for token in generated.top] for generated in sequence.tokens
        ]
    return details


def _event(
    job: TextGenerationJob, sequence: GeneratedSequence, generated: GeneratedToken, *, is_last: bool
) -> dict[str, Any]:
    event: dict[str, Any] = {"index": len(sequence.tokens), "token": _generated(generated)}
    if generated.top:
        event["top_tokens"] = [_scored(token) for token in generated.top]
    event |= {"generated_text": None, "details": None}
    if is_last:
        assert sequence.finish is not None
        event["generated_text"] = _full_text(job, job.prompts[0], sequence)
        if job.with_details:
            event["details"] = {
                "finish_reason": sequence.finish.reason,
                "generated_tokens": sequence.finish.num_generated_tokens,
                "seed": sequence.start.seed if sequence.start else None,
                "input_length": sequence.num_prompt_tokens,
            }
    return event


def _full_text(job: TextGenerationJob, prompt: str, sequence: GeneratedSequence) -> str:
    return prompt + sequence.text if job.return_full_text else sequence.text


def _generated(generated: GeneratedToken) -> dict[str, Any]:
    """Texts of the tokens that are not special join to the continuation."""
    token = generated.token
    return _scored(token) | {"text": token.text if token.special else generated.piece}


def _scored(token: ScoredToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "text": token.text,
        "logprob": token.logprob,
        "special": token.special,
    }
