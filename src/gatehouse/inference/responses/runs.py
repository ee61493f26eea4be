"""Runs response jobs on models: whole, or as events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gatehouse.core.errors import GatehouseError
from gatehouse.inference.chat.answers import Counts
from gatehouse.inference.chat.conversations import Conversations
from gatehouse.inference.generation import Target
from gatehouse.inference.responses.events import Event, ResponseEvents
from gatehouse.inference.responses.jobs import ResponseJob


async def run_response(
    conversations: Conversations, target: Target, job: ResponseJob
) -> dict[str, Any]:
    """One whole response. Raises as `Conversations.steps` does."""
    counts = Counts()
    events = ResponseEvents(target, job, counts)
    plan = await conversations.plan(target, job.chat)
    async with aclosing(conversations.steps(target, plan, counts)) as steps:
        async for step in steps:
            for _ in events.of(step):
                pass
    return events.response


async def stream_response(
    conversations: Conversations, target: Target, job: ResponseJob
) -> AsyncGenerator[Event]:
    """Its events as the tokens come. Use with `contextlib.aclosing`.

    Raises as `Conversations.steps` does before the first event; later an event says what broke.
    """
    counts = Counts()
    events = ResponseEvents(target, job, counts)
    plan = await conversations.plan(target, job.chat)
    has_begun = False
    try:
        async with aclosing(conversations.steps(target, plan, counts)) as steps:
            async for step in steps:
                if not has_begun:
                    has_begun = True
                    for event in events.begin():
                        yield event
                for event in events.of(step):
                    yield event
    except GatehouseError as error:
        if not has_begun:
            raise
        yield events.failure(error.message, error.code)
