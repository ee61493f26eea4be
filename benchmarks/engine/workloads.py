"""What the engines are asked, and what is read from the times at which tokens came."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.engine.worker import Request

NUM_DECODING = 31
MANY = 32
SHARED_TOKENS = 1000
_OWN_TOKENS = 24
_LONG_PROMPT = 512
_SHORTEST_PROMPT = 16
_LONGEST_ANSWER = 256
_SEED = 1234
# Ids under this are those of bytes and of what is special.
_FIRST_ID = 300
_NUM_POISSON = 48
LOAD_OF_CAPACITY = 0.7


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests, of which so many may be under way at once."""

    requests: tuple[Request, ...]
    in_flight: int


@dataclass(frozen=True, slots=True)
class Times:
    """Of one request, in seconds from the beginning: when it came, and when its tokens did."""

    arrived: float
    times: tuple[float, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a workload.

    Attributes:
        others: The share of the machine's processor time that other processes took meanwhile.
    """

    seconds: float
    cpu_seconds: float
    others: float
    anonymous_bytes: int
    peak_bytes: int
    streams: tuple[Times, ...]


class Prompts:
    """Prompts that nobody has seen before: what an engine remembers is of no use to it."""

    def __init__(self, vocab_size: int) -> None:
        self._random = random.Random(_SEED)  # noqa: S311 - a repeatable load, no secret
        self._vocab_size = vocab_size

    def new(self, num_tokens: int) -> tuple[int, ...]:
        return tuple(self._random.choices(range(_FIRST_ID, self._vocab_size), k=num_tokens))


def warm_up(prompts: Prompts) -> Workload:
    """Enough for an engine to prepare what it prepares late."""
    return Workload(tuple(Request(prompts.new(64), 16) for _ in range(8)), 8)


def single(prompts: Prompts) -> Workload:
    """One stream after another."""
    return Workload(tuple(Request(prompts.new(128), 128) for _ in range(3)), 1)


def first(prompts: Prompts) -> Workload:
    """Long prompts, of which hardly more than the first token is wanted."""
    return Workload(tuple(Request(prompts.new(_LONG_PROMPT), 2) for _ in range(5)), 1)


def all_at_once(prompts: Prompts, in_flight: int) -> Workload:
    """Requests of mixed lengths; the same lengths for every engine and in every round."""
    lengths = _mixed_lengths(2 * in_flight)
    return Workload(tuple(Request(prompts.new(size), count) for size, count in lengths), in_flight)


def poisson(prompts: Prompts, tokens_per_second: float) -> Workload:
    """Requests of mixed lengths that come by chance, for so many answer tokens a second."""
    lengths = _mixed_lengths(_NUM_POISSON)
    rate = tokens_per_second * len(lengths) / sum(count for _, count in lengths)
    chance = random.Random(_SEED)  # noqa: S311 - a repeatable load, no secret
    at, requests = 0.0, []
    for size, count in lengths:
        at += chance.expovariate(rate)
        requests.append(Request(prompts.new(size), count, at))
    return Workload(tuple(requests), MANY)


def gaps(prompts: Prompts) -> Workload:
    """Streams that are well under way when a long prompt comes."""
    decoding = [Request(prompts.new(64), 128) for _ in range(NUM_DECODING)]
    late = Request(prompts.new(_LONG_PROMPT), 16, after=NUM_DECODING * 48)
    return Workload((*decoding, late), MANY)


def shared_prefix(prompts: Prompts) -> Workload:
    """Requests that begin alike."""
    shared = prompts.new(SHARED_TOKENS)
    requests = tuple(Request(shared + prompts.new(_OWN_TOKENS), 1) for _ in range(MANY))
    return Workload(requests, MANY)


def own_prefix(prompts: Prompts) -> Workload:
    """As long as those, with nothing to reuse: what they cost where reuse is off."""
    size = SHARED_TOKENS + _OWN_TOKENS
    return Workload(tuple(Request(prompts.new(size), 1) for _ in range(MANY)), MANY)


def _mixed_lengths(count: int) -> list[tuple[int, int]]:
    chance = random.Random(_SEED)  # noqa: S311 - a repeatable load, no secret
    return [
        (
            chance.randint(_SHORTEST_PROMPT, _LONG_PROMPT),
            chance.randint(_SHORTEST_PROMPT, _LONGEST_ANSWER),
        )
        for _ in range(count)
    ]


def throughput(answer: Answer) -> float:
    """Tokens that were asked for, per second."""
    return num_tokens(answer) / answer.seconds


def tokens_per_cpu_second(answer: Answer) -> float:
    return num_tokens(answer) / answer.cpu_seconds


def num_tokens(answer: Answer) -> int:
    return sum(len(stream.times) for stream in answer.streams)


def decoding_rate(answer: Answer) -> float:
    """Tokens per second after the first one: the middle of the streams."""
    return median(
        (len(stream.times) - 1) / (stream.times[-1] - stream.times[0]) for stream in answer.streams
    )


def first_token_seconds(answer: Answer) -> float:
    return median(first_tokens(answer))


def first_tokens(answer: Answer) -> list[float]:
    return [stream.times[0] - stream.arrived for stream in answer.streams]


def seconds_per_token(answer: Answer) -> list[float]:
    """Of each stream, after its first token."""
    return [
        (stream.times[-1] - stream.times[0]) / (len(stream.times) - 1) for stream in answer.streams
    ]


def slowest_gap(answer: Answer) -> float:
    """The longest wait between two tokens of the streams, over the median, once all decode."""
    decoding = answer.streams[:NUM_DECODING]
    begun = max(stream.times[0] for stream in decoding)
    waits = [
        later - earlier
        for stream in decoding
        for earlier, later in zip(stream.times, stream.times[1:], strict=False)
        if earlier >= begun
    ]
    return max(waits) / median(waits)


def latecomer_seconds(answer: Answer) -> float:
    """How long the long prompt among decoding streams waited for its first token."""
    late = answer.streams[NUM_DECODING]
    return late.times[0] - late.arrived


def first_token_throughput(answer: Answer) -> float:
    """Requests that got their first token, per second."""
    return len(answer.streams) / max(stream.times[0] for stream in answer.streams)


def same_first_tokens(answer: Answer, other: Answer) -> float:
    """The share of streams that begin with the same token."""
    pairs = list(zip(answer.streams, other.streams, strict=True))
    return sum(one.token_ids[0] == two.token_ids[0] for one, two in pairs) / len(pairs)


Measure = Callable[[Answer], float]


def measured(measure: Measure, answers: Sequence[Answer]) -> list[float]:
    return [measure(answer) for answer in answers]
