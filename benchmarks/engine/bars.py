"""What is asked of our engine, and whether this run kept it."""

from benchmarks.engine import workloads
from benchmarks.engine.comparison import Comparison
from benchmarks.engine.engines import PEERS, EngineName
from benchmarks.engine.report import first_token_rate
from benchmarks.figures import show_bar

_OURS = EngineName.LLM
_BEST = [peer for peer in PEERS if peer is not EngineName.TRANSFORMERS]
_KEY_VALUE_BYTES = 1 << 30
_LARGEST = "1.1B"


def show_bars(comparison: Comparison) -> None:
    """One line for each bar of which there is a figure."""
    if _OURS not in comparison.names:
        return
    many, over = comparison.many, comparison.over
    _at_least("of the best peer, " + many, over(many, _OURS, _BEST, workloads.throughput), 1.0)
    of = [EngineName.TRANSFORMERS]
    _at_least("of transformers, " + many, over(many, _OURS, of, workloads.throughput), 4.0)
    _show_single(comparison)
    first = over("first", _OURS, PEERS, first_token_rate)
    _at_least("first token, times as fast as the best peer", first, 1.0)
    gap = comparison.middle("gaps", _OURS, workloads.slowest_gap)
    _at_most("slowest gap over the median", gap, 3.0)
    _at_least("a shared prefix", comparison.prefix_ratio(_OURS), 5.0)
    if comparison.results.shape.name == _LARGEST:
        _show_memory(comparison)


def _show_single(comparison: Comparison) -> None:
    results = comparison.results
    rate = comparison.middle("single", _OURS, workloads.decoding_rate)
    if rate is None:
        return
    limit = results.bandwidth / results.shape.bytes_per_token
    name = f"single, of {limit:.1f} tokens/s that reading weights at "
    name += f"{results.bandwidth / 1e9:.1f} GB/s allows"
    _at_least(name, rate / limit, 0.7 if results.shape.name == _LARGEST else 0.0)
    ratio = comparison.over("single", _OURS, _BEST, workloads.decoding_rate)
    _at_least("single, of the best peer", ratio, 0.95)


def _show_memory(comparison: Comparison) -> None:
    results = comparison.results
    show_bar("load", results.loaded[_OURS].seconds, "s", 3.0)
    allowed = 1.3 * results.shape.weight_bytes + _KEY_VALUE_BYTES
    name = f"peak memory, of {allowed / 1e9:.2f} GB allowed"
    _at_most(name, comparison.peak_bytes(_OURS) / allowed, 1.0)


def _at_least(name: str, value: float | None, bar: float) -> None:
    if value is not None:
        show_bar(name, value, "times", bar, at_least=True)


def _at_most(name: str, value: float | None, bar: float) -> None:
    if value is not None:
        show_bar(name, value, "times", bar)
