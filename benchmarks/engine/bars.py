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
    if comparison.results.plan.concurrencies[-1] == workloads.MANY:
        best = over(many, _OURS, _BEST, workloads.throughput)
        _at_least(f"{many}, of the best peer", best, 1.0)
        ratio = over(many, _OURS, [EngineName.TRANSFORMERS], workloads.throughput)
        _at_least(f"{many}, of transformers", ratio, 4.0)
    _show_single(comparison)
    first = over("first", _OURS, PEERS, first_token_rate)
    _at_least("first token, times as fast as the best peer", first, 1.0)
    gap = comparison.middle("gaps", _OURS, workloads.slowest_gap)
    _at_most("slowest gap over the median", gap, 3.0)
    _at_least("a shared prefix", comparison.prefix_ratio(_OURS), 5.0)
    if comparison.results.shape.name == _LARGEST:
        _show_memory(comparison)


def _show_single(comparison: Comparison) -> None:
    """For the largest shape the bar is what the machine allows, for the others the best peer."""
    results = comparison.results
    if results.shape.name != _LARGEST:
        ratio = comparison.over("single", _OURS, _BEST, workloads.decoding_rate)
        _at_least("single, of the best peer", ratio, 0.95)
    elif (rate := comparison.middle("single", _OURS, workloads.decoding_rate)) is not None:
        limit = results.bandwidth / results.shape.bytes_per_token
        reading = f"reading at {results.bandwidth / 1e9:.1f} GB/s"
        _at_least(f"single, of {limit:.1f} tokens/s by {reading}", rate / limit, 0.7)


def _show_memory(comparison: Comparison) -> None:
    results = comparison.results
    show_bar("load", results.loaded[_OURS].seconds, "s", 3.0)
    allowed = 1.3 * results.shape.weight_bytes + _KEY_VALUE_BYTES
    limit = f"of {allowed / 1e9:.2f} GB allowed"
    _at_most(f"memory of its own, {limit}", comparison.most_anonymous_bytes(_OURS) / allowed, 1.0)
    _at_most(f"peak with mapped files, {limit}", comparison.peak_bytes(_OURS) / allowed, 1.0)


def _at_least(name: str, value: float | None, bar: float) -> None:
    if value is not None:
        show_bar(name, value, "times", bar, at_least=True)


def _at_most(name: str, value: float | None, bar: float) -> None:
    if value is not None:
        show_bar(name, value, "times", bar)
