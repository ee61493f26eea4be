"""Runs again what went down with a host before its first token: once, and by turns.

The next host would die of the same prompt. So those that were lost together go one at a time: the
one that is to blame ends that host alone, and is not run a third time; the others are, so to say,
acquitted by their first token.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from weakref import WeakValueDictionary

import anyio

from gatehouse.engines.base import SequenceOutput
from gatehouse.inference.errors import HostLost

# A full queue may keep one from its first token for long; the next one then goes beside it.
_LONGEST_TURN_SECONDS = 10.0

Attempt = Callable[[], AsyncGenerator[SequenceOutput]]


class SecondTries:
    """Turns by model, within one worker."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()

    async def outputs(self, key: str, attempt: Attempt) -> AsyncGenerator[SequenceOutput]:
        """What the attempt gives; a second one if the first lost its host before it said anything.

        Args:
            key: The model's.
            attempt: Asks for a host and runs the sequence on it.

        Raises:
            HostLost: After the first token, or for the second time.
            GatehouseError: Whatever else the attempt raises.
        """
        has_begun = False
        try:
            async with aclosing(attempt()) as outputs:
                async for output in outputs:
                    has_begun = True
                    yield output
        except HostLost:
            if has_begun:
                raise
        else:
            return
        turn = self._turns.get(key) or self._turns.setdefault(key, _Turn())
        is_my_turn = await turn.take()
        try:
            async with aclosing(attempt()) as outputs:
                async for output in outputs:
                    if is_my_turn:
                        turn.pass_on()
                        is_my_turn = False
                    yield output
        finally:
            if is_my_turn:
                turn.pass_on()


class _Turn:
    def __init__(self) -> None:
        self._one = anyio.Semaphore(1)

    async def take(self) -> bool:
        """Wait for the turn, though not for ever. Whether it was given, and must be passed on."""
        with anyio.move_on_after(_LONGEST_TURN_SECONDS):
            await self._one.acquire()
            return True
        return False

    def pass_on(self) -> None:
        self._one.release()
