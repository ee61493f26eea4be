"""`gatehouse env`: lines that a shell reads back as they were meant."""

import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gatehouse.cli.main import app
from gatehouse.server.drop_in.environment import Client, Shell, line, needs_listener

URL = "http://hub.example:8000"


def run(folder: Path, *arguments: str) -> Result:
    command = ["env", "--url", URL, *arguments, "--data-dir", str(folder)]
    return CliRunner().invoke(app, command)


def lines(folder: Path, *arguments: str) -> dict[str, str]:
    outcome = run(folder, *arguments)
    assert outcome.exit_code == 0, outcome.output
    pairs = (shlex.split(text)[1].partition("=") for text in outcome.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def test_python_clients_get_the_proxy_and_the_roots(tmp_path: Path) -> None:
    found = lines(tmp_path / "a folder", "--drop-in-port", "9443")
    assert found["HF_ENDPOINT"] == found["HF_INFERENCE_ENDPOINT"] == URL
    assert found["HTTPS_PROXY"] == "http://127.0.0.1:9443"
    assert found["SSL_CERT_FILE"] == found["REQUESTS_CA_BUNDLE"]
    assert found["NO_PROXY"] == "hub.example,localhost,127.0.0.1"
    assert Path(found["SSL_CERT_FILE"]).read_text().count("BEGIN CERTIFICATE") > 50


def test_node_gets_a_module_that_is_there(tmp_path: Path) -> None:
    found = lines(tmp_path / "a folder", "--drop-in-port", "9443", "--client", "transformers.js")
    path = found["NODE_OPTIONS"].removeprefix("--import=file://").replace("%20", " ")
    assert Path(path).read_text().startswith("// Loaded before a program")
    assert Path(found["GATEHOUSE_DROP_IN_CA"]).is_file()
    assert "router.huggingface.co" in found["GATEHOUSE_DROP_IN_NAMES"].split(",")
    assert "HTTPS_PROXY" not in found


def test_without_a_listener_what_needs_none_is_printed(tmp_path: Path) -> None:
    assert lines(tmp_path, "--client", "openai") == {"OPENAI_BASE_URL": f"{URL}/v1"}
    outcome = run(tmp_path)
    assert "HF_ENDPOINT" in outcome.stdout
    assert "HTTPS_PROXY" not in outcome.stdout
    assert "--drop-in-port" in outcome.stderr
    assert not (tmp_path / "drop_in").exists()


@pytest.mark.parametrize("client", [client for client in Client if needs_listener(client)])
def test_without_a_listener_what_needs_one_is_refused(tmp_path: Path, client: Client) -> None:
    outcome = run(tmp_path, "--client", client)
    assert outcome.exit_code == 2
    assert "--drop-in-port" in outcome.stderr


@pytest.mark.parametrize("client", list(Client))
def test_every_client_gets_something(tmp_path: Path, client: Client) -> None:
    assert lines(tmp_path, "--client", client, "--drop-in-port", "9443")


@pytest.mark.parametrize("value", ["plain", 'it\'s a "$HOME" `x` \\ %'])
def test_a_shell_reads_back_what_was_written(value: str) -> None:
    text = f'{line(Shell.SH, "NAME", value)}; printf %s "$NAME"'
    outcome = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert outcome.stdout == value


@pytest.mark.parametrize(
    ("shell", "written"),
    [
        (Shell.FISH, "set -gx NAME 'it\\'s \\\\ $x'"),
        (Shell.POWERSHELL, "$env:NAME = 'it''s \\ $x'"),
        (Shell.DOTENV, 'NAME="it\'s \\\\ \\$x"'),
    ],
)
def test_each_shell_has_its_own_quotes(shell: Shell, written: str) -> None:
    assert line(shell, "NAME", "it's \\ $x") == written
