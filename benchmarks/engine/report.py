"""Tables of one shape."""

from collections.abc import Callable, Sequence

from benchmarks.engine import workloads
from benchmarks.engine.comparison import Comparison
from benchmarks.engine.engines import CONTENDERS, PEERS, EngineName
from benchmarks.engine.rounds import at_once
from benchmarks.engine.workloads import Answer
from benchmarks.figures import percentile, show_table

_NOTHING = "-"
_MILLISECONDS = 1000.0
_MEBIBYTE = 1 << 20

_Column = tuple[str, Callable[[EngineName], str]]


def show_tables(comparison: Comparison) -> None:
    """What was measured, and nothing else."""
    if comparison.has("single") or comparison.has(comparison.many):
        _show_speed(comparison)
    if "curve" in comparison.results.plan.parts:
        _show_curve(comparison)
    if comparison.has("first") or comparison.has("gaps"):
        _show_first_tokens(comparison)
    if comparison.has("poisson"):
        _show_poisson(comparison)
    if comparison.has("prefix, own"):
        _show_prefixes(comparison)
    _show_load(comparison)


def _show(comparison: Comparison, title: str, columns: Sequence[_Column]) -> None:
    rows = [
        [CONTENDERS[name].label, *(cell(name) for _, cell in columns)] for name in comparison.names
    ]
    heads = ["engine", *(head for head, _ in columns)]
    show_table(f"{comparison.results.shape.name}: {title}", heads, rows)


def _show_speed(comparison: Comparison) -> None:
    many, middle, over = comparison.many, comparison.middle, comparison.over
    decoding, throughput = workloads.decoding_rate, workloads.throughput
    per_cpu = workloads.tokens_per_cpu_second
    of = [EngineName.TRANSFORMERS]
    columns: list[_Column] = [
        ("single", lambda name: _text(middle("single", name, decoding))),
        ("of best peer", lambda name: _text(over("single", name, PEERS, decoding), 2)),
        (many, lambda name: _text(middle(many, name, throughput))),
        ("of best peer", lambda name: _text(over(many, name, PEERS, throughput), 2)),
        ("of transformers", lambda name: _text(over(many, name, of, throughput), 2)),
        ("per CPU s", lambda name: _text(middle(many, name, per_cpu))),
        ("of best peer", lambda name: _text(over(many, name, PEERS, per_cpu), 2)),
        ("others", lambda name: _share(middle(many, name, _others))),
        ("same token", lambda name: _share(comparison.same_first_tokens(name))),
    ]
    rounds = comparison.results.plan.num_rounds
    _show(comparison, f"tokens per second, medians of {rounds} rounds", columns)


def _show_curve(comparison: Comparison) -> None:
    def column(count: int) -> _Column:
        part = at_once(count)
        return str(count), lambda name: _text(comparison.middle(part, name, workloads.throughput))

    columns = [column(count) for count in comparison.results.plan.concurrencies]
    _show(comparison, "tokens per second by requests in flight", columns)


def _show_first_tokens(comparison: Comparison) -> None:
    middle = comparison.middle
    columns: list[_Column] = [
        ("first token", lambda name: _ms(middle("first", name, workloads.first_token_seconds))),
        (
            "times as fast as best peer",
            lambda name: _text(comparison.over("first", name, PEERS, first_token_rate), 2),
        ),
        ("slowest gap/median", lambda name: _text(middle("gaps", name, workloads.slowest_gap), 2)),
        (
            "first token then",
            lambda name: _ms(middle("gaps", name, workloads.latecomer_seconds)),
        ),
    ]
    title = f"a prompt of 512 tokens, alone and while {workloads.NUM_DECODING} decode, ms"
    _show(comparison, title, columns)


def _show_poisson(comparison: Comparison) -> None:
    def middle(name: EngineName, measure: workloads.Measure) -> float | None:
        return comparison.middle("poisson", name, measure)

    columns: list[_Column] = [
        ("tokens/s", lambda name: _text(middle(name, workloads.throughput))),
        ("first token, median", lambda name: _ms(middle(name, _first(0.5)))),
        ("p90", lambda name: _ms(middle(name, _first(0.9)))),
        ("per token, median", lambda name: _ms(middle(name, _per_token(0.5)))),
        ("p90", lambda name: _ms(middle(name, _per_token(0.9)))),
    ]
    share = f"{workloads.LOAD_OF_CAPACITY:.0%}"
    _show(comparison, f"arrival by chance at {share} of what each can do, ms", columns)


def _show_prefixes(comparison: Comparison) -> None:
    rate = workloads.first_token_throughput
    middle = comparison.middle
    columns: list[_Column] = [
        ("each its own", lambda name: _text(middle("prefix, own", name, rate), 2)),
        ("shared", lambda name: _text(middle("prefix, shared", name, rate), 2)),
        ("times", lambda name: _text(comparison.prefix_ratio(name))),
    ]
    title = f"first tokens per second of {workloads.MANY} prompts that begin with "
    _show(comparison, f"{title}{workloads.SHARED_TOKENS} tokens", columns)


def _show_load(comparison: Comparison) -> None:
    loaded = comparison.results.loaded
    columns: list[_Column] = [
        ("seconds", lambda name: f"{loaded[name].seconds:.2f}"),
        ("CPU s", lambda name: f"{loaded[name].cpu_seconds:.2f}"),
        ("own, loaded", lambda name: _mebibytes(loaded[name].anonymous_bytes)),
        ("own, most", lambda name: _mebibytes(comparison.most_anonymous_bytes(name))),
        ("peak with files", lambda name: _mebibytes(comparison.peak_bytes(name))),
        (
            "versions",
            lambda name: ", ".join(" ".join(pair) for pair in loaded[name].versions.items()),
        ),
    ]
    weights = _mebibytes(comparison.results.shape.weight_bytes)
    _show(comparison, f"load, and memory in MiB (the weights have {weights})", columns)


def first_token_rate(answer: Answer) -> float:
    return 1 / workloads.first_token_seconds(answer)


def _first(share: float) -> workloads.Measure:
    return lambda answer: percentile(sorted(workloads.first_tokens(answer)), share)


def _per_token(share: float) -> workloads.Measure:
    return lambda answer: percentile(sorted(workloads.seconds_per_token(answer)), share)


def _others(answer: Answer) -> float:
    return answer.others


def _text(value: float | None, digits: int = 1) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"


def _ms(seconds: float | None) -> str:
    return _text(None if seconds is None else seconds * _MILLISECONDS)


def _share(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.0%}"


def _mebibytes(count: int) -> str:
    return f"{count / _MEBIBYTE:.0f}"
