"""What the documents tell a reader to type is typed here, in order, against a real hub."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hub_server import free_port

from gatehouse.core.settings import Settings

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SERVE = "gatehouse serve --data-dir ./data --port 8080"


@dataclass
class Reader:
    """Somebody who types what the documents say, in one folder, in one shell."""

    folder: Path
    port: int
    drop_in_port: int
    environment: dict[str, str] = field(default_factory=dict)

    def type(self, language: str, text: str) -> None:
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        text = text.replace("--port 8080", f"--port {self.port}")
        text = text.replace("--drop-in-port 8443", f"--drop-in-port {self.drop_in_port}")
        if language == "bash":
            self._shell(text)
        elif language == "python":
            self._run([sys.executable, "-c", text])
        elif language == "javascript":
            self._node(text)
        elif language == "yaml":
            self._put_on_the_card(text)

    def _shell(self, text: str) -> None:
        # The environment outlives the block, as in a shell that stays open.
        after = self.folder / "environment"
        self._run(["bash", "-euo", "pipefail", "-c", f"{text}\nenv -0 > '{after}'"])
        lines = (item.partition("=") for item in after.read_text().split("\0") if "=" in item)
        self.environment = {name: value for name, _, value in lines}

    def _put_on_the_card(self, front_matter: str) -> None:
        (self.folder / "README.md").write_text(f"---\n{front_matter}---\n# Storyteller\n")
        self._shell("hf upload ada/storyteller README.md")

    def _node(self, text: str) -> None:
        packages = ROOT / "tests" / "conformance" / "node" / "node_modules"
        if not packages.exists():
            pytest.fail("the Node packages are missing: run `make test`, which installs them")
        script = packages.parent / f"snippet-{os.getpid()}.mjs"
        script.write_text(text)
        try:
            self._run(["node", str(script)])
        finally:
            script.unlink()

    def _run(self, command: list[str]) -> None:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, f"{command[-1]}\n{result.stdout}\n{result.stderr}"


def blocks(path: str, *languages: str) -> list[tuple[str, str]]:
    found = BLOCK.findall((ROOT / path).read_text())
    return [(language, text) for language, text in found if language in languages]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    port, drop_in_port = free_port(), free_port()
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "src/gatehouse/server/demo_models/storyteller", folder / "my-model")
    binaries = Path(sys.executable).parent
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
    }
    reader = Reader(folder, port, drop_in_port, environment)
    command = SERVE.replace("8080", str(port)).split()
    log = (folder / "serve.log").open("wb")
    server = subprocess.Popen(
        [str(binaries / command[0]), *command[1:]],
        cwd=folder,
        env=environment | {"GATEHOUSE_DROP_IN_PORT": str(drop_in_port)},
        stdout=log,
        stderr=log,
    )
    try:
        wait_until_up(port)
        yield reader
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def wait_until_up(port: int) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def test_the_documents_work_as_written(reader: Reader) -> None:
    readme = blocks("README.md", "bash", "python")
    assert [text for _, text in readme if text.startswith("make")] == ["make demo\n", "make test\n"]
    assert (("bash", SERVE + "\n")) in readme
    guest = (
        "echo 'another password' | gatehouse user create guest --email guest@example.com"
        " --password-stdin --data-dir ./data\n"
        "export GUEST_TOKEN=$(gatehouse token create --user guest --name t --role write"
        " --data-dir ./data)\n"
    )
    for language, text in readme:
        if not text.startswith(("make", "gatehouse serve")):
            reader.type(language, text)
    reader.type("bash", guest)
    for path in (
        "docs/guides/gate-a-model.md",
        "docs/guides/tokens.md",
        "docs/reference/inference.md",
        "docs/guides/chat.md",
        "docs/guides/adapters.md",
        "docs/guides/inference-operations.md",
        "docs/guides/plans.md",
        "docs/guides/remote-engines.md",
        # The last one: what it sets changes where clients go.
        "docs/guides/drop-in.md",
    ):
        for language, text in blocks(path, "bash", "python", "javascript", "yaml"):
            if not text.startswith("gatehouse serve"):
                reader.type(language, text)


def test_make_knows_the_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("install", "demo", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_setting_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text()
    for name, about in Settings.model_fields.items():
        assert f"`GATEHOUSE_{name.upper()}`" in text
        assert about.description is not None
        assert about.description in text


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "src/gatehouse").glob("*/__init__.py")]
    missing = [room for room in rooms if f"`{room}`" not in text]
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
