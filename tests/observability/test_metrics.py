"""What is counted, by one worker and by several."""

import subprocess
import sys
from pathlib import Path

from gatehouse.observability.metrics import InferenceRequest, Metrics

REQUEST = InferenceRequest(
    model="ada/model",
    failure=None,
    total_seconds=1.0,
    validation_seconds=0.1,
    queue_seconds=0.2,
    inference_seconds=0.7,
    num_prompt_tokens=5,
    num_generated_tokens=7,
    max_new_tokens=20,
    is_cached=False,
)
WORKER = """
import sys, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gatehouse.observability.metrics import Metrics
from test_metrics import REQUEST
metrics = Metrics(Path(sys.argv[1]))
metrics.inference_request(REQUEST)
metrics.inference_request(replace(REQUEST, failure="overloaded"))
metrics.sequences("ada/model").running.inc()
print(metrics.render().decode() if len(sys.argv) > 3 else "ready", flush=True)
sys.stdin.readline()
"""


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def value(text: str, sample: str) -> float:
    """The one value of a sample, given as it is written."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{sample} "))
    return float(line.rpartition(" ")[2])


def rendered(metrics: Metrics, model: str | None = None) -> str:
    return metrics.render(model=model).decode()


def test_names_are_those_of_text_generation_inference() -> None:
    metrics = Metrics()
    metrics.inference_request(REQUEST)
    text = rendered(metrics)
    assert value(text, 'tgi_request_count{model="ada/model"}') == 1
    assert value(text, 'tgi_request_success{model="ada/model"}') == 1
    assert "# TYPE tgi_request_count counter" in text
    assert "tgi_request_count_total" not in text
    assert "_created" not in text
    for name in ("duration", "validation_duration", "queue_duration", "inference_duration"):
        assert f"# TYPE tgi_request_{name} histogram" in text
    assert value(text, 'tgi_request_queue_duration_sum{model="ada/model"}') == 0.2
    assert value(text, 'tgi_request_generated_tokens_sum{model="ada/model"}') == 7
    assert value(text, 'tgi_request_input_length_sum{model="ada/model"}') == 5
    assert value(text, 'tgi_request_max_new_tokens_sum{model="ada/model"}') == 20
    per_token = 'tgi_request_mean_time_per_token_duration_sum{model="ada/model"}'
    assert value(text, per_token) == 0.7 / 7


def test_one_model_is_shown_without_the_others() -> None:
    metrics = Metrics()
    metrics.inference_request(REQUEST)
    metrics.http_request("GET", "/api/models", 200, 0.1)
    assert rendered(metrics, "ada/other") == ""
    text = rendered(metrics, "ada/model")
    assert 'tgi_request_count{model="ada/model"} 1.0' in text
    assert "gatehouse_http_requests" not in text


def test_models_beyond_a_bound_share_one_label() -> None:
    metrics = Metrics()
    labels = {metrics.model_label(f"ada/model-{number}") for number in range(2000)}
    assert len(labels) == 501
    assert metrics.model_label("ada/model-3") == "ada/model-3"


def test_workers_are_told_of_together_and_the_dead_have_nothing_under_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(Path(__file__).parent)]
    with start(command) as first, start(command) as second:
        for worker in (first, second):
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        second.kill()
        second.wait()
        third = subprocess.run(
            [*command, "show"], input="\n", capture_output=True, text=True, check=True
        )
        first.kill()
    text = third.stdout
    assert value(text, 'tgi_request_count{model="ada/model"}') == 6
    assert value(text, 'tgi_request_success{model="ada/model"}') == 3
    assert value(text, 'tgi_request_failure{err="overloaded",model="ada/model"}') == 3
    assert value(text, 'tgi_batch_current_size{model="ada/model"}') == 2
    assert value(text, 'tgi_request_duration_count{model="ada/model"}') == 6
