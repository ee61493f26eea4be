"""One sequence read as an answer: its text, its reasoning and its calls, step by step."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from gatehouse.engines.base import FinishReason, GeneratedToken, SequenceOutput
from gatehouse.inference.chat.deltas import (
    CallArguments,
    CallEnd,
    CallStart,
    Delta,
    Reasoning,
    Text,
)
from gatehouse.inference.chat.plans import Plan

_FINISH_REASONS = {
    FinishReason.EOS_TOKEN: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
}
_CALLED = "tool_calls"


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """Why an answer ended, in OpenAI's words."""

    reason: str


@dataclass(frozen=True, slots=True)
class AnswerStep:
    """What one step of the engine added.

    Attributes:
        tokens: Those of the answer that were generated; the one that ends a sequence is not.
    """

    deltas: tuple[Delta, ...]
    tokens: tuple[GeneratedToken, ...] = ()
    end: AnswerEnd | None = None


@dataclass(slots=True)
class AnswerCall:
    """A tool that was called. `arguments` is whole unless the answer was cut off in it."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """What came so far."""

    text: str = ""
    reasoning: str = ""
    calls: list[AnswerCall] = field(default_factory=list)
    tokens: list[GeneratedToken] = field(default_factory=list)
    end: AnswerEnd | None = None

    def add(self, step: AnswerStep) -> None:
        self.tokens += step.tokens
        self.end = step.end or self.end
        for delta in step.deltas:
            match delta:
                case Text(text):
                    self.text += text
                case Reasoning(text):
                    self.reasoning += text
                case CallStart(_, name):
                    self.calls.append(AnswerCall(new_call_id(), name))
                case CallArguments(index, text):
                    self.calls[index].arguments += text
                case CallEnd():
                    pass


@dataclass(slots=True)
class Counts:
    """Tokens of one request, over all of its choices; the prompt counts once."""

    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_reasoning_tokens: int = 0


class AnswerReader:
    """Reads the outputs of one sequence as `plan` says, and counts into `counts`."""

    def __init__(self, plan: Plan, counts: Counts) -> None:
        self._markers = plan.markers
        self._shows_special = plan.request.show_special
        self._splitter = plan.new_splitter()
        self._calls = plan.new_call_reader()
        self._counts = counts

    def read(self, output: SequenceOutput) -> AnswerStep:
        if output.start is not None:
            self._counts.num_prompt_tokens = output.start.num_prompt_tokens
        deltas: list[Delta] = []
        for generated in output.tokens:
            deltas += self._split(self._piece(generated))
            self._count()
        tokens = output.tokens
        if output.finish is None:
            return AnswerStep(tuple(deltas), tokens)
        deltas += self._flush()
        if output.finish.reason is FinishReason.EOS_TOKEN:
            tokens = tokens[:-1]
        return AnswerStep(tuple(deltas), tokens, self._end(output.finish.reason))

    def _piece(self, generated: GeneratedToken) -> str:
        """The token's text, without the names of special tokens that mean nothing here."""
        name = generated.token.text
        if not (self._shows_special and generated.token.special) or name in self._markers:
            return generated.piece
        return generated.piece.removesuffix(name)

    def _count(self) -> None:
        self._counts.num_generated_tokens += 1
        if self._splitter is not None and self._splitter.is_inside:
            self._counts.num_reasoning_tokens += 1

    def _split(self, piece: str) -> list[Delta]:
        if not piece:
            return []
        if self._splitter is None:
            return self._find_calls([Text(piece)])
        return self._find_calls(self._splitter.feed(piece))

    def _find_calls(self, deltas: Iterable[Delta]) -> list[Delta]:
        if self._calls is None:
            return list(deltas)
        found: list[Delta] = []
        for delta in deltas:
            found += self._calls.feed(delta.text) if isinstance(delta, Text) else [delta]
        return found

    def _flush(self) -> list[Delta]:
        deltas = self._find_calls(self._splitter.flush()) if self._splitter is not None else []
        return deltas if self._calls is None else deltas + self._calls.flush()

    def _end(self, reason: FinishReason) -> AnswerEnd:
        calls = self._calls
        if calls is not None and calls.num_calls and not calls.is_mid_call:
            return AnswerEnd(_CALLED)
        return AnswerEnd(_FINISH_REASONS[reason])


def new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
