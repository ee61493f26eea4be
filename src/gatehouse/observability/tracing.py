"""One OpenTelemetry span for each inference request. Costs next to nothing without an SDK."""

import time
from collections.abc import Mapping

from opentelemetry import propagate, trace

_NANOSECONDS = 1_000_000_000

_tracer = trace.get_tracer("gatehouse")


def record_span(
    name: str,
    seconds: float,
    attributes: Mapping[str, str | int | float],
    headers: Mapping[str, str],
    failure: str | None = None,
) -> None:
    """Record what has just ended, as part of the trace that the request's headers name."""
    now = time.time_ns()
    span = _tracer.start_span(
        name,
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        attributes=dict(attributes),
        start_time=now - int(seconds * _NANOSECONDS),
    )
    if failure is not None:
        span.set_status(trace.Status(trace.StatusCode.ERROR, failure))
    span.end(now)
