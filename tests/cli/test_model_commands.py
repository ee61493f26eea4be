"""`gatehouse model set`, as an administrator types it."""

from factories import Hub
from typer.testing import CliRunner, Result

from gatehouse.cli.main import app
from gatehouse.engines.base import EngineOptions, Precision, RunnerName, Speculation


def run(hub: Hub, *arguments: str) -> Result:
    folder = str(hub.settings.data_dir)
    return CliRunner().invoke(app, ["model", *arguments, "--data-dir", folder])


def test_what_is_set_holds_for_the_next_request_and_can_be_taken_back(hub: Hub) -> None:
    weights = {"model.safetensors": b"weights"}
    files = {"config.json": b"{}"}
    repository = hub.make_repo(hub.make_user("ada"), "small", files=files, large_files=weights)
    usual = hub.services.model_sources.at(repository, "main")
    assert usual.options == EngineOptions()
    outcome = run(hub, "set", "ada/small", "--runner", "openvino", "--precision", "exact")
    assert outcome.stdout == "runner openvino\nprecision exact\nweights stored\nspeculation off\n"
    changed = hub.services.model_sources.at(repository, "main")
    assert changed.options == EngineOptions(RunnerName.OPENVINO, Precision.EXACT)
    assert changed.key != usual.key
    assert changed.version != usual.version
    assert "precision exact" in run(hub, "set", "ada/small").stdout
    refused = run(hub, "set", "ada/small", "--runner", "transformers")
    assert refused.exit_code == 2
    assert "With the runner `transformers`" in refused.stderr
    assert run(hub, "set", "ada/small", "--runner", "auto").exit_code == 0
    guessing = run(hub, "set", "ada/small", "--speculation", "prompt-lookup")
    assert guessing.stdout.endswith("speculation prompt-lookup\n")
    guessed = hub.services.model_sources.at(repository, "main")
    assert guessed.options.speculation is Speculation.PROMPT_LOOKUP
    assert guessed.key != changed.key
    assert run(hub, "set", "ada/small", "--runner", "vllm").exit_code == 2
    usually = ("--runner", "auto", "--precision", "stored", "--speculation", "off")
    assert run(hub, "set", "ada/small", *usually).exit_code == 0
    assert hub.services.model_sources.at(repository, "main") == usual


def test_mistakes_are_told(hub: Hub) -> None:
    hub.make_repo(hub.make_user("ada"), "small")
    assert run(hub, "set", "ada/small", "--runner", "magic").exit_code == 2
    assert run(hub, "set", "ada/other").exit_code == 2
