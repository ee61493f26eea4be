"""A wish for a host: sent to the supervisor, granted or refused later, given back at the end."""

import asyncio

import anyio

from gatehouse.inference.errors import (
    ModelLoading,
    ModelNotServable,
    ModelTimedOut,
    ModelTooLarge,
    SupervisorAbsent,
    TooManyAtOnce,
)
from gatehouse.inference.lifecycle.messages import (
    Acquire,
    Claim,
    Declined,
    DeclineReason,
    Granted,
    ModelSource,
    Release,
)
from gatehouse.inference.lifecycle.supervisor_link import Answer, Question, SupervisorLink

# Whoever waits this long asked for it, and is told that it took too long.
ASKED_TO_WAIT_SECONDS = 600.0
# The supervisor ends the wait, and may add a pause of up to a minute; this is for one that hangs.
_GRACE_SECONDS = 65.0


class Wish:
    """See `ModelProvider.hold` for the arguments."""

    def __init__(
        self,
        link: SupervisorLink,
        source: ModelSource,
        wait_seconds: float,
        *,
        may_load: bool,
        claim: Claim,
    ) -> None:
        self._link = link
        self._source = source
        self._wait_seconds = wait_seconds
        self._may_load = may_load
        self._claim = claim
        self._end = anyio.current_time() + wait_seconds
        self._ticket = link.new_ticket()
        self._question: Question | None = None
        self._granted: Granted | None = None

    async def send(self) -> None:
        """Ask the supervisor, and leave waiting for later.

        Raises:
            SupervisorAbsent: Nobody is there to be asked.
        """
        claim = self._claim
        wish = Acquire(
            self._ticket,
            self._source,
            self._may_load,
            max(0.0, self._end - anyio.current_time()),
            claim.caller,
            claim.num_concurrent,
            claim.call_id,
        )
        self._question = await self._link.post(self._ticket, wish)

    async def granted(self) -> Granted:
        """The grant. A supervisor that is started anew meanwhile is asked again.

        Raises:
            GatehouseError: The refusal; see `ModelProvider.hold`.
        """
        if self._granted is None:
            answer: Answer | None = None
            left = self._end - anyio.current_time()
            with anyio.move_on_after(max(0.0, left) + _GRACE_SECONDS):
                answer = await self._answer()
            if isinstance(answer, Declined):
                raise self._refusal(answer)
            if not isinstance(answer, Granted):
                raise SupervisorAbsent
            self._granted = answer
        return self._granted

    def give_up(self) -> None:
        """Let go of the host, or of the wish for one.

        The supervisor hears of it once the loop is done with what is urgent: the answer to whoever
        wished. What they wish next comes behind it on the same line.
        """
        self._link.forget(self._ticket)
        asyncio.get_running_loop().call_soon(self._link.tell_soon, Release(self._ticket))

    async def _answer(self) -> Answer:
        while True:
            if self._question is None:
                await self.send()
            assert self._question is not None
            answer = await self._question.answer()
            if answer is not None:
                return answer
            self._question = None

    def _refusal(self, answer: Declined) -> Exception:
        """The error that a decline stands for."""
        name = self._source.name
        if answer.reason is DeclineReason.TOO_LARGE:
            return ModelTooLarge(name, answer.needed_bytes, answer.budget_bytes)
        if answer.reason is DeclineReason.TOO_MANY:
            return TooManyAtOnce(self._claim.num_concurrent)
        if answer.reason is DeclineReason.NOT_SERVABLE:
            return ModelNotServable(f"{name} cannot be run: {answer.message}")
        if self._wait_seconds >= ASKED_TO_WAIT_SECONDS:
            return ModelTimedOut(name)
        return ModelLoading(name, answer.estimated_seconds)
