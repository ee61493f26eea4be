"""What other engines need: an environment of Python packages each, and models in their formats."""

import shutil
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).parent / "requirements"


def ensure_environment(name: str, folder: Path) -> Path:
    """The Python of the environment with the packages of `requirements/<name>.txt`.

    The lists are whole and taken as they are: what a package would like beside them may break it.

    Raises:
        subprocess.CalledProcessError: The packages cannot be installed.
    """
    wanted = _REQUIREMENTS / f"{name}.txt"
    place = folder / name
    python = place / "bin" / "python"
    installed = place / "installed.txt"
    if installed.exists() and installed.read_text() == wanted.read_text():
        return python
    shutil.rmtree(place, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(place)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(wanted)])
    shutil.copyfile(wanted, installed)
    return python


def ensure_export(checkpoint: Path, environments: Path, folder: Path) -> Path:
    """The checkpoint in OpenVINO's format with weights of 16 bits, by optimum's exporter.

    Raises:
        subprocess.CalledProcessError: It cannot be made.
    """
    place = folder / checkpoint.name
    if place.exists():
        return place
    python = ensure_environment("exporter", environments)
    unfinished = folder / f"{checkpoint.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [str(python.with_name("optimum-cli")), "export", "openvino", "-m", str(checkpoint)]
    options = ["--task", "text-generation-with-past", "--weight-format", "fp16"]
    _run([*command, *options, "--disable-convert-tokenizer", str(unfinished)])
    unfinished.rename(place)
    return place


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
