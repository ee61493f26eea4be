"""The lines on a repository's page that use it from each client."""

import ast
import json

import pytest
from factories import Hub

from gatehouse.core.ids import RepoKind
from gatehouse.repos.repository import Gate
from gatehouse.web.snippets import Snippet, snippets_for

BASE = "http://hub.test:8080"
MODEL = {
    "config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}",
}


def snippets(hub: Hub, kind: RepoKind, files: dict[str, bytes], gate: Gate) -> dict[str, Snippet]:
    repository = hub.make_repo(hub.make_user("ann"), "thing", kind=kind, files=files, gate=gate)
    info = hub.services.infos.at(repository, hub.head(repository))
    return {snippet.title: snippet for snippet in snippets_for(repository, info, BASE)}


def test_a_gated_model_has_a_line_for_each_client(hub: Hub) -> None:
    found = snippets(hub, RepoKind.MODEL, MODEL, Gate.MANUAL)
    assert list(found) == [
        "transformers (Python)",
        "Run it with curl",
        "Run it from Python",
        "Transformers.js (Node)",
        "Download with hf",
        "git clone",
    ]
    assert (
        'AutoModelForCausalLM.from_pretrained("ann/thing")' in found["transformers (Python)"].code
    )
    assert f"curl {BASE}/models/ann/thing" in found["Run it with curl"].code
    assert "env.fetch = " in found["Transformers.js (Node)"].code
    assert f"git clone {BASE}/ann/thing" in found["git clone"].code
    for title in ("Run it with curl", "Download with hf", "transformers (Python)"):
        assert "HF_TOKEN" in found[title].code


def test_an_open_model_needs_no_token(hub: Hub) -> None:
    found = snippets(hub, RepoKind.MODEL, MODEL, Gate.OPEN)
    assert not any("HF_TOKEN" in snippet.code for snippet in found.values())


def test_a_dataset_is_loaded_as_one(hub: Hub) -> None:
    found = snippets(hub, RepoKind.DATASET, {"data.csv": b"a,b"}, Gate.OPEN)
    assert 'load_dataset("ann/thing")' in found["datasets (Python)"].code
    assert "--repo-type dataset" in found["Download with hf"].code
    assert f"{BASE}/datasets/ann/thing" in found["git clone"].code


@pytest.mark.parametrize("gate", list(Gate))
def test_python_lines_are_python(hub: Hub, gate: Gate) -> None:
    for snippet in snippets(hub, RepoKind.MODEL, MODEL, gate).values():
        if "Python" in snippet.title:
            ast.parse(snippet.code)


@pytest.mark.parametrize("task", ["summarization", "translation", "text2text-generation"])
def test_a_model_of_two_texts_is_run_by_its_own_method(hub: Hub, task: str) -> None:
    method = "text_generation" if task == "text2text-generation" else task
    card = f"---\npipeline_tag: {task}\nlibrary_name: transformers\n---\n".encode()
    found = snippets(hub, RepoKind.MODEL, {**MODEL, "README.md": card}, Gate.MANUAL)
    assert "AutoModelForSeq2SeqLM" in found["transformers (Python)"].code
    assert f"client.{method}(" in found["Run it from Python"].code
    ast.parse(found["Run it from Python"].code)
    assert "HF_TOKEN" in found["Run it with curl"].code
    body = found["Run it with curl"].code.partition("-d ")[2].strip("'")
    assert json.loads(body)["inputs"]
