"""Turns what another server streams into the outputs of a sequence of ours, within its limits.

A state machine over deltas: it knows neither sockets nor time that passes unseen.
"""

import msgspec

from gatehouse.engines.base import (
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    ScoredToken,
    SequenceOutput,
    Start,
)
from gatehouse.engines.remote.base import (
    UNKNOWN_TOKEN_ID,
    Counts,
    Delta,
    UpstreamMalformed,
)
from gatehouse.engines.text.stop_strings import StopStrings

# Far above the longest token of any vocabulary.
_MAX_CHARACTERS_PER_TOKEN = 1024


class RemoteSequence:
    """One answer on its way.

    Stop texts are looked for here, since servers differ in whether they show them, and never more
    tokens pass than were asked for. A server that says how long the prompt was says it at the end:
    then a second `Start`, with the last token, corrects the first.

    Args:
        request: What was asked for.
        seed: What the server was told; None for greedy decoding.
        waited_seconds: How long the request waited here.
    """

    def __init__(self, request: GenerationRequest, seed: int | None, waited_seconds: float) -> None:
        self._request = request
        self._start = Start(0, seed, (), waited_seconds)
        self._stop = StopStrings(request.stop, keep=request.keep_stop)
        self._counts = Counts()
        self._held: list[GeneratedToken] = []
        self._num_tokens = 0
        self._num_characters = 0
        self._reason: FinishReason | None = None
        self._is_cut = False
        self._has_started = False
        self.is_over = False

    @property
    def has_begun(self) -> bool:
        """Whether a token has come."""
        return self._num_tokens > 0

    @property
    def has_ended(self) -> bool:
        """Whether the server has said why it ends."""
        return self._reason is not None

    def take(self, delta: Delta, seconds: float) -> SequenceOutput | None:
        """What a delta gives, if anything. `seconds` have passed since the answer began.

        Once `is_over`, nobody wants to hear what the server has more to say.

        Raises:
            UpstreamMalformed: The text is longer than so many tokens can be.
        """
        self._counts = delta.counts or self._counts
        if self._reason is None:
            self._read(delta)
            limit = self._request.max_seconds
            if self._reason is None and self._held and limit is not None and seconds >= limit:
                self._cut(FinishReason.LENGTH)
        if self._reason is None:
            # The last that may come waits, so that the reason can go with it.
            num_kept = 1 if self._num_tokens >= self._request.max_new_tokens else 0
            return self._output(num_kept)
        if self._is_cut or self._counts.num_generated_tokens is not None:
            return self.end()
        return None

    def end(self) -> SequenceOutput:
        """The last output, when the server's stream has ended.

        Raises:
            UpstreamMalformed: It ended in the middle.
        """
        if self._reason is None:
            raise UpstreamMalformed("the stream ended in the middle")
        self.is_over = True
        self._pad()
        last = self._held[-1]
        self._held[-1] = msgspec.structs.replace(last, piece=last.piece + self._stop.flush())
        output = self._output(0)
        assert output is not None
        start = output.start or self._start
        num_prompt_tokens = self._counts.num_prompt_tokens or 0
        if num_prompt_tokens:
            start = msgspec.structs.replace(start, num_prompt_tokens=num_prompt_tokens)
        return msgspec.structs.replace(
            output,
            start=start if output.start or num_prompt_tokens else None,
            finish=Finish(self._reason, self._num_tokens),
        )

    def _read(self, delta: Delta) -> None:
        for token in _generated(delta):
            if self._num_tokens >= self._request.max_new_tokens:
                self._cut(FinishReason.LENGTH)
                return
            self._num_tokens += 1
            self._count_characters(token)
            piece, top = self._stop.feed(token.piece), token.top[: self._request.num_top_tokens]
            self._held.append(msgspec.structs.replace(token, piece=piece, top=top))
            if self._stop.is_stopped:
                self._cut(FinishReason.STOP_SEQUENCE)
                return
        self._reason = delta.finish

    def _count_characters(self, token: GeneratedToken) -> None:
        """What has no token names counts one event as one token, of whatever length."""
        self._num_characters += len(token.piece) + len(token.token.text)
        if self._num_characters > _MAX_CHARACTERS_PER_TOKEN * self._request.max_new_tokens:
            raise UpstreamMalformed("more text than the tokens asked for can hold")

    def _cut(self, reason: FinishReason) -> None:
        """End the sequence here, whatever the server goes on to say."""
        self._reason = reason
        self._is_cut = True

    def _pad(self) -> None:
        """Let there be as many tokens as the server counted, and one to carry the end.

        Servers put several tokens into one event, and some have no event for the end token.
        """
        told = self._counts.num_generated_tokens
        if told is not None and not self._is_cut:
            while self._num_tokens < min(told, self._request.max_new_tokens):
                self._hold_empty(special=False)
        if not self._held:
            self._hold_empty(special=True)

    def _hold_empty(self, *, special: bool) -> None:
        self._num_tokens += 1
        token = ScoredToken(UNKNOWN_TOKEN_ID, "", None, special)
        self._held.append(GeneratedToken(token, ""))

    def _output(self, num_kept: int) -> SequenceOutput | None:
        """What is held, but for the last `num_kept`."""
        border = len(self._held) - num_kept
        tokens, self._held = self._held[:border], self._held[border:]
        if not tokens:
            return None
        start = None if self._has_started else self._start
        self._has_started = True
        return SequenceOutput(0, tuple(tokens), start)


def _generated(delta: Delta) -> list[GeneratedToken]:
    """The tokens of a delta; together their pieces are its text."""
    if not delta.tokens:
        if not delta.text:
            return []
        token = ScoredToken(UNKNOWN_TOKEN_ID, delta.text, None, special=False)
        return [GeneratedToken(token, delta.text)]
    texts = [item.token.text for item in delta.tokens]
    if "".join(texts) != delta.text:
        # Parts of characters, special tokens, marks of tool calls: the border is not known.
        texts = [delta.text] + [""] * (len(texts) - 1)
    return [
        GeneratedToken(item.token, text, item.top)
        for item, text in zip(delta.tokens, texts, strict=True)
    ]
