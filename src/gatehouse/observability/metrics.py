"""Prometheus metrics of the hub: requests, and text-generation under that server's own names.

Workers share them by files in one folder, so that whichever is asked tells of all. Labels hold
names of models and routes, never of people or tokens.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from gatehouse.observability.metrics_folder import forget_dead_workers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_MAX_MODELS = 500
_OTHER_MODELS = "(other)"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
# The library writes `_total` behind every counter; text-generation-inference does not.
_TGI_COUNTER = re.compile(rb"^((?:# (?:HELP|TYPE) )?tgi_request_\w+)_total\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One request, when it is over. `failure` is None for a success."""

    model: str
    failure: str | None
    total_seconds: float
    validation_seconds: float
    queue_seconds: float
    inference_seconds: float
    num_prompt_tokens: int
    num_generated_tokens: int
    max_new_tokens: int
    is_cached: bool


@dataclass(frozen=True, slots=True)
class SequenceGauges:
    """Sequences of one model that this worker has under way."""

    queued: Gauge
    running: Gauge


class Metrics:
    """What one worker counts.

    Args:
        folder: Shared by all workers, and empty when the first of them starts; None counts in this
            process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        self._models: set[str] = set()
        # These three have no types in the library.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        if folder is not None:
            # The library asks its environment when it is imported, which may be too early.
            os.environ[_FOLDER_VARIABLE] = str(folder)
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        self._make()

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer. `route` is the pattern that matched, not the path."""
        self._http_count.labels(method, route, str(status)).inc()
        self._http_duration.labels(route).observe(seconds)

    def inference_request(self, request: InferenceRequest) -> None:
        model = self.model_label(request.model)
        self._count.labels(model).inc()
        self._duration.labels(model).observe(request.total_seconds)
        if request.failure is not None:
            self._failure.labels(model, request.failure).inc()
            return
        self._success.labels(model).inc()
        self._max_new_tokens.labels(model).observe(request.max_new_tokens)
        if request.is_cached:
            self._cached.labels(model).inc()
            return
        self._validation.labels(model).observe(request.validation_seconds)
        self._queue.labels(model).observe(request.queue_seconds)
        self._inference.labels(model).observe(request.inference_seconds)
        self._input_length.labels(model).observe(request.num_prompt_tokens)
        self._generated.labels(model).observe(request.num_generated_tokens)
        if request.num_generated_tokens:
            per_token = request.inference_seconds / request.num_generated_tokens
            self._per_token.labels(model).observe(per_token)

    def sequences(self, model: str) -> SequenceGauges:
        label = self.model_label(model)
        return SequenceGauges(self._queue_size.labels(label), self._batch_size.labels(label))

    def model_label(self, model: str) -> str:
        """The model's name; one name for all that come after too many others."""
        if model in self._models:
            return model
        if len(self._models) >= _MAX_MODELS:
            return _OTHER_MODELS
        self._models.add(model)
        return model

    def render(self, others: Iterable[Metric] = (), model: str | None = None) -> bytes:
        """The text that Prometheus reads, of all workers. Blocking.

        Args:
            others: What to tell besides.
            model: Only what has this model as its label.
        """
        registry = self._registry
        if self._folder is not None:
            forget_dead_workers(self._folder)
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        families: Iterable[Metric] = [*registry.collect(), *others]
        if model is not None:
            families = _of_model(families, model)
        shown = CollectorRegistry()
        shown.register(_Given(families))
        return _TGI_COUNTER.sub(rb"\1", generate_latest(shown))

    def _make(self) -> None:
        seconds, tokens = self._seconds, self._tokens
        self._http_count = self._counter(
            "gatehouse_http_requests", "Answers", "method", "route", "status"
        )
        self._http_duration = Histogram(
            "gatehouse_http_request_duration_seconds",
            "From the request's first byte to the answer's last",
            ["route"],
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._count = self._counter("tgi_request_count", "Requests")
        self._success = self._counter("tgi_request_success", "Requests that were answered")
        self._failure = self._counter("tgi_request_failure", "Requests that failed", "model", "err")
        self._cached = self._counter(
            "gatehouse_cached_requests", "Requests that a kept answer served"
        )
        self._duration = seconds(
            "tgi_request_duration", "From the request to the end of the answer"
        )
        self._validation = seconds("tgi_request_validation_duration", "Before it was handed on")
        self._queue = seconds("tgi_request_queue_duration", "Waiting for the model and a place")
        self._inference = seconds("tgi_request_inference_duration", "While the model ran")
        self._per_token = seconds(
            "tgi_request_mean_time_per_token_duration", "Inference time by generated token"
        )
        self._generated = tokens("tgi_request_generated_tokens", "Generated tokens")
        self._input_length = tokens("tgi_request_input_length", "Tokens of the prompt")
        self._max_new_tokens = tokens("tgi_request_max_new_tokens", "Tokens that were asked for")
        self._queue_size = self._gauge("tgi_queue_size", "Sequences that wait for a place")
        self._batch_size = self._gauge("tgi_batch_current_size", "Sequences that run")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels or ("model",), registry=self._registry)

    def _seconds(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["model"], registry=self._registry, buckets=_SECONDS)

    def _tokens(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["model"], registry=self._registry, buckets=_TOKENS)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(name, about, ["model"], registry=self._registry, multiprocess_mode="livesum")


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _of_model(families: Iterable[Metric], model: str) -> list[Metric]:
    """What the families say about one model."""
    found = []
    for family in families:
        shown = Metric(family.name, family.documentation, family.type)
        shown.samples = [sample for sample in family.samples if sample.labels.get("model") == model]
        if shown.samples:
            found.append(shown)
    return found
