"""Runs chat jobs on models, whatever surface asks, and gives their answers step by step."""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gatehouse.engines.base import ChatTraits, SequenceOutput, TextPrompt
from gatehouse.inference.chat.answers import Answer, AnswerReader, AnswerStep, Counts
from gatehouse.inference.chat.jobs import ChatJob
from gatehouse.inference.chat.plans import Manner, Plan, make_plan, markers_of
from gatehouse.inference.errors import GenerationRefused
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.held_model import HeldModel

_MAX_REMEMBERED = 256


class Conversations:
    """Answers to conversations; remembers how the models write that it has met."""

    def __init__(self, generation: TextGeneration) -> None:
        self._generation = generation
        self._manners: OrderedDict[str, Manner] = OrderedDict()

    async def plan(self, target: Target, job: ChatJob) -> Plan:
        """How the target's model does the job; waits for it where it is not known yet.

        Raises:
            GatehouseError: As `TextGeneration.hold` does, and `make_plan`.
        """
        return make_plan(job, await self._manner(target))

    async def steps(
        self, target: Target, plan: Plan, counts: Counts, number: int = 0
    ) -> AsyncGenerator[AnswerStep]:
        """One choice's answer. Use with `aclosing`. Raises as `TextGeneration.outputs` does."""
        reader = AnswerReader(plan, counts)
        request = plan.nth_request(number)
        async with aclosing(self._generation.outputs(target, request)) as outputs:
            async for output in outputs:
                yield reader.read(output)

    async def answers(self, target: Target, job: ChatJob, counts: Counts) -> list[Answer]:
        """All choices, whole. Raises as `plan` and `steps` do."""
        plan = await self.plan(target, job)
        requests = [plan.nth_request(number) for number in range(job.num_choices)]
        answers = []
        for sequence in await self._generation.sequences(target, requests):
            answer = Answer()
            whole = SequenceOutput(0, tuple(sequence.tokens), sequence.start, sequence.finish)
            answer.add(AnswerReader(plan, counts).read(whole))
            answers.append(answer)
        return answers

    async def _manner(self, target: Target) -> Manner:
        known = self._manners.get(target.version)
        if known is None:
            async with self._generation.hold(target) as model:
                traits = model.description.chat or ChatTraits()
                known = Manner(traits, await _token_ids(model, traits))
            self._manners[target.version] = known
            if len(self._manners) > _MAX_REMEMBERED:
                self._manners.popitem(last=False)
        self._manners.move_to_end(target.version)
        return known


async def _token_ids(model: HeldModel, traits: ChatTraits) -> dict[str, int]:
    """The markers that the model has a token for."""
    found: dict[str, int] = {}
    for marker in markers_of(traits):
        try:
            prompt = await model.tokenize(TextPrompt(marker))
        except GenerationRefused:
            continue  # then it is spelled out, in grammars too
        found |= {token.text: token.id for token in prompt.tokens if token.text == marker}
    return found
