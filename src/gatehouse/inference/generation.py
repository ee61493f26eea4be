"""Runs text-generation jobs on model hosts and gives answers in the shapes of that surface.

Knows models as folders and callers not at all: gates, plans and caches come before it.
"""

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import msgspec

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import (
    AdapterFolder,
    GenerationRequest,
    InfillPrompt,
    ModelDescription,
    SequenceOutput,
    TaskPrompt,
    TextPrompt,
)
from gatehouse.inference.errors import SuffixNotSupported, ValidationFailed
from gatehouse.inference.held_model import HeldModel
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.messages import NOBODY, Claim, ModelSource
from gatehouse.inference.lifecycle.second_tries import SecondTries
from gatehouse.inference.meter import Meter
from gatehouse.inference.parameters import TextGenerationJob
from gatehouse.inference.remote.provider import RemoteModels
from gatehouse.inference.remote.source import RemoteSource
from gatehouse.inference.sequences import GeneratedSequence
from gatehouse.inference.token_shapes import stream_details, token_event, whole_details

Item = TypeVar("Item")

_SEEDS = 2**64
# Of one request's sequences, so that others get a turn between them.
AT_ONCE = 4


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
        claim: Who is counted for it.
        adapter: What is added to it; part of its version.
    """

    name: str
    version: str
    source: ModelSource | RemoteSource
    meter: Meter
    wait_seconds: float
    may_load: bool = True
    claim: Claim = NOBODY
    adapter: AdapterFolder | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job gave, ready to be encoded, with the figures for the headers."""

    body: Any
    num_prompt_tokens: int
    num_generated_tokens: int


class TextGeneration:
    """The service that the web's routes call."""

    def __init__(self, hosts: ModelHosts, remote_models: RemoteModels | None = None) -> None:
        self._hosts = hosts
        self._remote_models = remote_models or RemoteModels()
        self._second_tries = SecondTries()

    async def outputs(
        self, target: Target, request: GenerationRequest
    ) -> AsyncGenerator[SequenceOutput]:
        """One sequence's outputs. A host that was lost before its first word is asked once more.

        Closing the generator cancels the sequence. Use with `contextlib.aclosing`.

        Raises:
            GatehouseError: See `ModelHosts.hold` and `HostConnection.generate`.
        """
        attempt = partial(self._attempt, target, request)
        async with aclosing(self._second_tries.outputs(target.version, attempt)) as outputs:
            async for output in outputs:
                yield output

    async def sequence(self, target: Target, request: GenerationRequest) -> GeneratedSequence:
        """One whole sequence. Raises as `outputs` does."""
        sequence = GeneratedSequence()
        async with aclosing(self.outputs(target, request)) as outputs:
            async for output in outputs:
                sequence.add(output)
        return sequence

    async def sequences(
        self, target: Target, requests: Sequence[GenerationRequest]
    ) -> list[GeneratedSequence]:
        """Whole sequences in the order of their requests, a few at a time.

        The first that fails ends the others. Raises as `outputs` does.
        """
        if len(requests) == 1:
            return [await self.sequence(target, requests[0])]
        found = [GeneratedSequence() for _ in requests]
        errors: list[GatehouseError] = []
        limiter = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:

            async def fill(place: int) -> None:
                try:
                    async with limiter:
                        found[place] = await self.sequence(target, requests[place])
                except GatehouseError as error:
                    errors.append(error)
                    tasks.cancel_scope.cancel()

            for place in range(len(requests)):
                tasks.start_soon(fill, place)
        if errors:
            raise errors[0]
        return found

    async def run(self, target: Target, job: TextGenerationJob, *, as_list: bool) -> Answer:
        """The answer to a job that is not streamed.

        Args:
            target: The model.
            job: What to generate.
            as_list: One prompt's answer is a list of one, as on `/models/{id}`.
        """
        requests = [
            _nth_request(job, prompt, number)
            for prompt in job.prompts
            for number in range(job.num_sequences)
            for _ in range(job.best_of)
        ]
        sequences = await self.sequences(target, requests)
        groups = batched(sequences, job.best_of)
        prompts = (prompt for prompt in job.prompts for _ in range(job.num_sequences))
        answers = [
            _answer(job, prompt, group) for prompt, group in zip(prompts, groups, strict=True)
        ]
        body: Any = batched(answers, job.num_sequences)
        if not job.is_batch:
            body = answers if as_list else answers[0]
        return Answer(
            body,
            sum(sequence.num_prompt_tokens for sequence in sequences),
            sum(len(sequence.tokens) for sequence in sequences),
        )

    async def stream(
        self, target: Target, job: TextGenerationJob
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """Events, one a token, as many at once as came at once. Use with `contextlib.aclosing`."""
        sequence = GeneratedSequence()
        async with aclosing(self.outputs(target, job.request)) as outputs:
            async for output in outputs:
                index = len(sequence.tokens)
                sequence.add(output)
                events = list(map(token_event, itertools.count(index + 1), output.tokens))
                if output.is_last and events:
                    full_text = _full_text(job, job.prompts[0], sequence)
                    details = stream_details(sequence) if job.with_details else None
                    events[-1] |= {"generated_text": full_text, "details": details}
                if events:
                    yield events

    def hold(self, target: Target) -> AbstractAsyncContextManager[HeldModel]:
        """The target's model, for more than one question. See `ModelProvider.hold`."""
        source, wait_seconds, claim = target.source, target.wait_seconds, target.claim
        if isinstance(source, RemoteSource):
            return self._remote_models.hold(
                source, wait_seconds, may_load=target.may_load, claim=claim
            )
        return self._hosts.hold(source, wait_seconds, may_load=target.may_load, claim=claim)

    async def _attempt(
        self, target: Target, request: GenerationRequest
    ) -> AsyncGenerator[SequenceOutput]:
        meter = target.meter
        submitted = meter.submit()
        async with self.hold(target) as model:
            held_after = meter.hold(model.description.device, submitted)
            _check_fits(request, model.description)
            scoped = msgspec.structs.replace(
                request, reuse_scope=target.claim.caller, adapter=target.adapter
            )
            async with aclosing(model.generate(scoped)) as outputs:
                async for output in outputs:
                    meter.record(output, held_after)
                    yield output


def batched(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Runs of `size` items each."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _check_fits(request: GenerationRequest, description: ModelDescription) -> None:
    """What only somebody who knows the model can check.

    Raises:
        ValidationFailed: `truncate` is out of range.
        SuffixNotSupported: The model cannot fill in the middle.
    """
    prompt = request.prompt
    if isinstance(prompt, InfillPrompt) and not description.can_infill:
        raise SuffixNotSupported
    if isinstance(prompt, TextPrompt) and prompt.truncate is not None:
        largest = description.longest_prompt
        if not 0 < prompt.truncate <= largest:
            raise ValidationFailed(
                f"`truncate` must be strictly positive and less than {largest}. "
                f"Given: {prompt.truncate}"
            )


def _nth_request(job: TextGenerationJob, prompt: str, number: int) -> GenerationRequest:
    """The request for one of several sequences: each has a seed of its own."""
    template = job.request.prompt
    assert isinstance(template, TextPrompt | TaskPrompt)
    sampling = job.request.sampling
    if sampling.seed is not None:
        sampling = msgspec.structs.replace(sampling, seed=(sampling.seed + number) % _SEEDS)
    return msgspec.structs.replace(
        job.request, prompt=msgspec.structs.replace(template, text=prompt), sampling=sampling
    )


def _answer(
    job: TextGenerationJob, prompt: str, sequences: list[GeneratedSequence]
) -> dict[str, Any]:
    """The likeliest of some sequences, and in its details the others."""
    best, *others = sorted(sequences, key=lambda sequence: -sequence.mean_logprob)
    answer: dict[str, Any] = {"generated_text": _full_text(job, prompt, best)}
    if job.with_details:
        answer["details"] = details = whole_details(best)
        if others:
            details["best_of_sequences"] = [
                {"generated_text": _full_text(job, prompt, other)} | whole_details(other)
                for other in others
            ]
    return answer


def _full_text(job: TextGenerationJob, prompt: str, sequence: GeneratedSequence) -> str:
    return prompt + sequence.text if job.return_full_text else sequence.text
