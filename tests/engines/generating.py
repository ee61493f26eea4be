"""Runs requests through an engine and gathers what comes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gatehouse.engines.base import (
    Engine,
    Finish,
    GeneratedToken,
    GenerationRequest,
    SequenceOutput,
    Start,
    TextPrompt,
)
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.pipelines.text_generation import TextGenerationEngine


@dataclass
class Answer:
    tokens: list[GeneratedToken] = field(default_factory=list)
    start: Start | None = None
    finish: Finish | None = None

    @property
    def ids(self) -> list[int]:
        return [generated.token.id for generated in self.tokens]

    @property
    def text(self) -> str:
        return "".join(generated.piece for generated in self.tokens)


def run(engine: Engine, requests: Iterable[GenerationRequest]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    for request_id, request in enumerate(requests):
        engine.add(request_id, request)
        answers[request_id] = Answer()
    while engine.has_work():
        for output in engine.step():
            assert isinstance(output, SequenceOutput)
            assert output.failure is None, output.failure
            answer = answers[output.request_id]
            answer.tokens += output.tokens
            answer.start = output.start or answer.start
            answer.finish = output.finish
    if isinstance(engine, TextGenerationEngine):
        assert engine.budget.num_allocated == 0
    elif isinstance(engine, BatchedTextGeneration):
        engine.scheduler.audit()
        assert engine.scheduler.num_running == engine.scheduler.num_waiting == 0
    return list(answers.values())


def ask(text: str, max_new_tokens: int = 24, **options: Any) -> GenerationRequest:
    return GenerationRequest(prompt=TextPrompt(text), max_new_tokens=max_new_tokens, **options)
