"""Runs completion jobs, and writes their answers and chunks as OpenAI's clients read them."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gatehouse.engines.base import (
    Finish,
    FinishReason,
    GeneratedToken,
    InfillPrompt,
    Prompt,
    SequenceOutput,
    Start,
    TextPrompt,
)
from gatehouse.inference.completions.jobs import CompletionJob
from gatehouse.inference.completions.logprobs import LegacyLogprobs
from gatehouse.inference.generation import AT_ONCE, Target, TextGeneration, batched
from gatehouse.inference.merging import merged
from gatehouse.inference.sequences import GeneratedSequence
from gatehouse.inference.token_shapes import stream_details, token_event

_FINISH_REASONS = {
    FinishReason.EOS_TOKEN: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
}


class Completions:
    """The service behind the completion routes."""

    def __init__(self, generation: TextGeneration) -> None:
        self._generation = generation

    async def run(self, target: Target, job: CompletionJob) -> dict[str, Any]:
        """One whole answer. Raises as `TextGeneration.outputs` does."""
        sequences = await self._generation.sequences(target, job.requests())
        groups = batched(sequences, job.best_of)
        choices: list[dict[str, Any]] = []
        for prompt, group in zip(job.prompts, groups, strict=True):
            for sequence in _likeliest(group, job.num_choices):
                choices.append(_choice(job, prompt, sequence, len(choices)))
        return _head(target) | {"choices": choices, "usage": _usage(job, sequences)}

    async def stream(
        self, target: Target, job: CompletionJob, *, with_tgi_keys: bool = False
    ) -> AsyncGenerator[dict[str, Any]]:
        """Chunks, one a token. Use with `contextlib.aclosing`.

        Args:
            target: The model.
            job: What to generate.
            with_tgi_keys: Each chunk also has the keys of a text-generation event.
        """
        head = _head(target)
        writers = [
            _ChunkWriter(job, prompt, index, with_tgi_keys=with_tgi_keys)
            for index, prompt in enumerate(
                prompt for prompt in job.prompts for _ in range(job.num_choices)
            )
        ]
        requests = job.requests()
        if with_tgi_keys:
            requests = [
                msgspec.structs.replace(request, with_logprobs=True) for request in requests
            ]
        streams = [self._generation.outputs(target, request) for request in requests]
        async with aclosing(merged(streams, AT_ONCE)) as outputs:
            async for index, output in outputs:
                for chunk in writers[index].chunks(output):
                    yield head | chunk
        if job.include_usage:
            usage = _usage(job, [writer.sequence for writer in writers])
            yield head | {"choices": [], "usage": usage}


@dataclass(slots=True)
class _ChunkWriter:
    """Writes one choice's chunks."""

    job: CompletionJob
    prompt: Prompt
    index: int
    with_tgi_keys: bool = field(kw_only=True)
    sequence: GeneratedSequence = field(default_factory=GeneratedSequence)
    _num_characters: int = 0
    _num_tokens: int = 0

    def chunks(self, output: SequenceOutput) -> list[dict[str, Any]]:
        # Servers of others say at the end again how it began.
        is_first = self.sequence.start is None
        self.sequence.add(output)
        written = []
        if self.job.echo and is_first and output.start is not None:
            # Where nothing is generated, the beginning is the end.
            written.append(self._echo(output.start, None if output.tokens else output.finish))
        for generated in output.tokens:
            self._num_tokens += 1
            is_last = output.is_last and generated is output.tokens[-1]
            written.append(self._token(generated, is_last=is_last))
        return written

    def _echo(self, start: Start, finish: Finish | None) -> dict[str, Any]:
        text = _prompt_text(self.prompt, start)
        logprobs = self._logprobs()
        if logprobs is not None:
            logprobs.add_prompt(start)
        self._num_characters += len(text)
        return self._chunk(text, logprobs, _reason(finish))

    def _token(self, generated: GeneratedToken, *, is_last: bool) -> dict[str, Any]:
        logprobs = self._logprobs()
        if logprobs is not None:
            logprobs.add(generated)
        self._num_characters += len(generated.piece)
        finish = self.sequence.finish if is_last else None
        chunk = self._chunk(generated.piece, logprobs, _reason(finish))
        if self.with_tgi_keys:
            chunk |= token_event(self._num_tokens, generated)
            if finish is not None:
                chunk["generated_text"] = self.sequence.text
                if self.job.with_details:
                    chunk["details"] = stream_details(self.sequence)
        return chunk

    def _logprobs(self) -> LegacyLogprobs | None:
        if self.job.num_logprobs is None:
            return None
        return LegacyLogprobs(self.job.num_logprobs, self._num_characters)

    def _chunk(
        self, text: str, logprobs: LegacyLogprobs | None, finish_reason: str | None
    ) -> dict[str, Any]:
        choice = {
            "index": self.index,
            "text": text,
            "logprobs": logprobs.body() if logprobs is not None else None,
            "finish_reason": finish_reason,
        }
        return {"choices": [choice], "usage": None}


def _choice(
    job: CompletionJob, prompt: Prompt, sequence: GeneratedSequence, index: int
) -> dict[str, Any]:
    assert sequence.start is not None
    text = _prompt_text(prompt, sequence.start) if job.echo else ""
    logprobs = None
    if job.num_logprobs is not None:
        logprobs = LegacyLogprobs(job.num_logprobs)
        if job.echo:
            logprobs.add_prompt(sequence.start)
            logprobs.offset = len(text)
        for generated in sequence.tokens:
            logprobs.add(generated)
    return {
        "index": index,
        "text": text + sequence.text,
        "logprobs": logprobs.body() if logprobs is not None else None,
        "finish_reason": _reason(sequence.finish),
    }


def _reason(finish: Finish | None) -> str | None:
    return _FINISH_REASONS[finish.reason] if finish is not None else None


def _likeliest(group: list[GeneratedSequence], number: int) -> list[GeneratedSequence]:
    if number == len(group):
        return group
    return sorted(group, key=lambda sequence: -sequence.mean_logprob)[:number]


def _prompt_text(prompt: Prompt, start: Start) -> str:
    if isinstance(prompt, TextPrompt):
        return prompt.text
    if isinstance(prompt, InfillPrompt):
        return prompt.prefix
    return "".join(token.text for token in start.prompt_tokens if not token.special)


def _head(target: Target) -> dict[str, Any]:
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": target.name,
        "system_fingerprint": f"gatehouse-{target.version[-12:]}",
    }


def _usage(job: CompletionJob, sequences: list[GeneratedSequence]) -> dict[str, int]:
    """Each prompt counts once, however many sequences it was run for."""
    num_prompt = sum(group[0].num_prompt_tokens for group in batched(sequences, job.best_of))
    num_generated = sum(len(sequence.tokens) for sequence in sequences)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_generated,
        "total_tokens": num_prompt + num_generated,
    }
