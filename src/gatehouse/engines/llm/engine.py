"""Text generation by continuous batching: an `Engine` over our scheduler, sampler and runner.

Every step runs one batch: a token of each sequence that generates, and pieces of prompts.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatehouse.engines.base import (
    EmbeddingRequest,
    Failure,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    RequestRefused,
    SequenceOutput,
    Start,
    TokenizedPrompt,
)
from gatehouse.engines.llm.adapter_holds import AdapterHolds
from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.inbox import Inbox
from gatehouse.engines.llm.plan import Plan, ProposedRows
from gatehouse.engines.llm.prompt_scores import PromptScores
from gatehouse.engines.llm.runner import Logits, ModelRunner
from gatehouse.engines.llm.sampler import Choice, SamplingState, choose
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence
from gatehouse.engines.llm.scheduler import Scheduler, SchedulerLimits
from gatehouse.engines.llm.speculation import Proposer
from gatehouse.engines.text.model_text import ModelFacts, ModelText
from gatehouse.engines.text.prompts import refuse_invalid
from gatehouse.engines.text.sequence import Sequence

# How long a step waits when every running sequence waits for its grammar.
_GRAMMAR_WAIT_SECONDS = 0.02
# Blocks are counted when nobody runs, but not more often than this.
_AUDIT_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Running:
    """A request in all its forms: text, ids, and how its tokens are chosen."""

    text: Sequence
    scheduled: ScheduledSequence
    sampling: SamplingState
    scores: PromptScores
    start: Start | None = None


class BatchedTextGeneration:
    """An `Engine` over a loaded runner and tokenizer.

    Args:
        runner: Of the model.
        tokenizer: Of `transformers`; shared by all threads.
        defaults: What holds for sequences whose requests say nothing.
        facts: For `describe`.
        limits: What a step may be.
        proposer: Guesses tokens that are run before they are chosen; None for no guesses.
    """

    def __init__(
        self,
        runner: ModelRunner,
        tokenizer: Any,
        defaults: GenerationDefaults,
        facts: ModelFacts,
        limits: SchedulerLimits | None = None,
        proposer: Proposer | None = None,
    ) -> None:
        self._runner = runner
        self.proposer = proposer
        self._defaults = defaults
        self._text = ModelText(tokenizer, facts, runner.vocabulary_size, defaults.eos_token_ids)
        self.scheduler = Scheduler(
            BlockManager(runner.num_blocks, runner.block_size), limits or SchedulerLimits()
        )
        self._inbox = Inbox()
        self._next_audit = 0.0
        self._adapters = AdapterHolds(runner.adapters)
        self._running: dict[int, _Running] = {}
        self._by_scheduled: dict[ScheduledSequence, _Running] = {}

    def describe(self) -> ModelDescription:
        return self._text.describe()

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        if isinstance(request, EmbeddingRequest):
            raise refuse_invalid("the model generates text and gives no embeddings")
        sequence = self._text.reader.read(request_id, request)
        self._adapters.hold(request_id, request.adapter)
        try:
            self._inbox.add(sequence)
        except RequestRefused:
            self._adapters.release(request_id)
            raise

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        return self._text.prompts.tokenize(prompt)

    def cancel(self, request_id: int) -> None:
        self._inbox.cancel(request_id)

    def has_work(self) -> bool:
        return bool(self._running or self._inbox)

    def step(self) -> list[SequenceOutput]:
        self._read_inbox()
        plan = self.scheduler.plan(self._not_ready())
        if plan is None:
            self._wait_for_grammars()
            return []
        self._note_started(plan)
        logits = self._runner.run(plan.batch)
        self.scheduler.complete(plan)
        outputs = self._score(plan, logits)
        for row, scheduled in enumerate(plan.sampled):
            running = self._by_scheduled.get(scheduled)
            if running is not None:
                guessed = plan.proposed.get(scheduled)
                outputs.append(self._advance(running, logits, row, guessed))
        if not self._running:
            self._audit()
        return outputs

    def memory_bytes(self) -> int:
        return self._runner.memory_bytes()

    def unload(self) -> None:
        self._inbox.clear()
        for running in list(self._running.values()):
            self._remove(running)
        self._text.reader.close()
        self._runner.close()

    def _audit(self) -> None:
        """Check now and then that nobody left blocks behind. The host does not outlive that."""
        if time.monotonic() >= self._next_audit:
            self.scheduler.audit()
            self._next_audit = time.monotonic() + _AUDIT_SECONDS

    def _read_inbox(self) -> None:
        added, cancelled = self._inbox.take()
        for sequence in added:
            self._schedule(sequence)
        for request_id in cancelled:
            self._adapters.release(request_id)
            if request_id in self._running:
                self._remove(self._running[request_id])

    def _schedule(self, sequence: Sequence) -> None:
        request = sequence.request
        adapter = self._adapters.place(sequence.request_id, request.adapter)
        if adapter is None:
            return
        scheduled = ScheduledSequence(
            np.array(sequence.prompt_ids, np.int64),
            sequence.max_new_tokens,
            request.priority,
            _salt(request),
            request.prompt_details,
            adapter,
        )
        sampling = SamplingState(
            request.sampling,
            self._defaults,
            sequence.prompt_ids,
            sequence.seed,
            sequence.max_new_tokens,
            sequence.ends.keys(),
        )
        sequence.eos_token_ids = frozenset(self._defaults.eos_token_ids) | sequence.ends.keys()
        scores = PromptScores(sequence.prompt_ids, request.num_top_tokens)
        running = _Running(sequence, scheduled, sampling, scores)
        self._running[sequence.request_id] = running
        self._by_scheduled[scheduled] = running
        self.scheduler.add(scheduled)

    def _remove(self, running: _Running) -> None:
        self.scheduler.finish(running.scheduled)
        self._adapters.release(running.text.request_id)
        del self._running[running.text.request_id]
        del self._by_scheduled[running.scheduled]

    def _not_ready(self) -> list[ScheduledSequence]:
        return [
            running.scheduled
            for running in self._running.values()
            if running.text.constraint is not None and not running.text.is_ready()
        ]

    def _wait_for_grammars(self) -> None:
        for running in self._running.values():
            if running.text.is_ready(_GRAMMAR_WAIT_SECONDS):
                return

    def _note_started(self, plan: Plan) -> None:
        """Tell waiting times by the first piece of a prompt."""
        for piece in plan.pieces:
            text = self._by_scheduled[piece.sequence].text
            if not text.started_at:
                text.started_at = time.monotonic()
                self._inbox.note_started(text.request_id)

    def _score(self, plan: Plan, logits: Logits) -> list[SequenceOutput]:
        """Take in what the step tells of prompts; the ends of sequences that break of it."""
        broken = []
        for scored in plan.scored:
            running = self._by_scheduled[scored.sequence]
            try:
                running.scores.add(logits, scored)
            except ArithmeticError as error:
                broken.append(self._fail(running, error))
        return broken

    def _fail(self, running: _Running, error: ArithmeticError) -> SequenceOutput:
        """End one sequence whose numbers are not finite, or whose grammar gave up."""
        _log.warning("A sequence failed.", exc_info=error)
        self._remove(running)
        message = f"Request failed during generation: {type(error).__name__}"
        failure = Failure(RefusalKind.GENERATION, message)
        return SequenceOutput(running.text.request_id, failure=failure)

    def _advance(
        self, running: _Running, logits: Logits, row: int, guessed: ProposedRows | None
    ) -> SequenceOutput:
        """Choose a sequence's next token, and more as long as they were guessed.

        The sequence ends here if one of them is its last.
        """
        text, request_id = running.text, running.text.request_id
        start = None
        tokens: list[GeneratedToken] = []
        try:
            if not text.num_generated:
                start = self._start(running)
            if text.max_new_tokens == 0:
                self._remove(running)
                return SequenceOutput(request_id, (), start, Finish(FinishReason.LENGTH, 0))
            for place, guess in _to_choose(row, guessed):
                choice = self._choose(running, logits, place)
                token, reason = self._take(running, choice)
                tokens.append(token)
                if reason is not None:
                    self._remove(running)
                    finish = Finish(reason, text.num_generated)
                    return SequenceOutput(request_id, tuple(tokens), start, finish)
                was_guessed = choice.token_id == guess
                self.scheduler.append(running.scheduled, choice.token_id, was_guessed=was_guessed)
                if not was_guessed:
                    break
        except ArithmeticError as error:
            return self._fail(running, error)
        self._guess(running)
        return SequenceOutput(request_id, tuple(tokens), start)

    def _guess(self, running: _Running) -> None:
        """Let tokens be run that may come next. What a grammar allows after them is not known."""
        if self.proposer is None or running.text.constraint is not None:
            return
        num_tokens = self.scheduler.room_for_guesses(running.scheduled)
        if num_tokens > 0:
            running.scheduled.proposed_ids = self.proposer.propose(running.scheduled, num_tokens)

    def _choose(self, running: _Running, logits: Logits, row: int) -> Choice:
        request = running.text.request
        return choose(
            logits,
            row,
            running.sampling,
            request.num_top_tokens,
            running.text.constraint,
            with_logprob=request.with_logprobs,
        )

    def _take(
        self, running: _Running, choice: Choice
    ) -> tuple[GeneratedToken, FinishReason | None]:
        piece, reason = running.text.take(choice.token_id)
        token = self._text.texts.scored(choice.token_id, choice.logprob)
        return GeneratedToken(token, piece, self._text.texts.top(choice.top)), reason

    def _start(self, running: _Running) -> Start:
        text, scores = running.text, running.scores
        waited = text.started_at - text.queued_at
        if not text.request.prompt_details:
            return Start(len(text.prompt_ids), text.seed, (), waited)
        pairs = zip(text.prompt_ids, scores.logprobs(), strict=True)
        details = tuple(self._text.texts.scored(token_id, logprob) for token_id, logprob in pairs)
        top = tuple(self._text.texts.top(likeliest) for likeliest in scores.tops())
        return Start(len(text.prompt_ids), text.seed, details, waited, top)


def _salt(request: GenerationRequest) -> bytes:
    """Whose prompts may be used again: those of the same scope, run with the same adapter."""
    adapter = request.adapter.key if request.adapter else ""
    return f"{request.reuse_scope}\0{adapter}".encode()


def _to_choose(row: int, guessed: ProposedRows | None) -> Iterator[tuple[int, int | None]]:
    """Rows of logits, each with what was guessed to be chosen of it."""
    if guessed is None:
        yield row, None
        return
    rows = range(guessed.first_row, guessed.first_row + len(guessed.ids))
    yield from zip((row, *rows), (*guessed.ids, None), strict=True)
