"""The lines that use a repository of this hub with each client, ready to paste."""

from dataclasses import dataclass

from gatehouse.core.ids import RepoKind
from gatehouse.repos.infos import RepoInfo
from gatehouse.repos.repository import Repository

_AUTO_CLASSES = {
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
}


_SAMPLE = "The tower was built in 1889 and was the tallest in the world for forty years."
# Tasks that a text is sent for, and how `InferenceClient` calls each.
_CLIENT_METHODS = {
    "text2text-generation": "text_generation",
    "summarization": "summarization",
    "translation": "translation",
}


@dataclass(frozen=True, slots=True)
class Snippet:
    title: str
    code: str


def snippets_for(repository: Repository, info: RepoInfo, base_url: str) -> tuple[Snippet, ...]:
    """The snippets that fit this repository; each works as it stands against `base_url`."""
    needs_token = repository.is_gated or repository.is_private
    shell = _shell(base_url, needs_token)
    found = []
    if repository.kind is RepoKind.MODEL:
        found += _model_snippets(repository, info, base_url, shell, needs_token=needs_token)
    if repository.kind is RepoKind.DATASET:
        code = (
            f'from datasets import load_dataset\n\ndataset = load_dataset("{repository.repo_id}")'
        )
        found.append(Snippet("datasets (Python)", _python(shell, code)))
    found.append(Snippet("Download with hf", f"{shell}\n\n{_hf_download(repository)}"))
    found.append(Snippet("git clone", _git(repository, base_url, needs_token=needs_token)))
    return tuple(found)


def _model_snippets(
    repository: Repository, info: RepoInfo, base_url: str, shell: str, *, needs_token: bool
) -> list[Snippet]:
    name = str(repository.repo_id)
    paths = {file.path for file in info.files}
    found = []
    if info.library == "transformers" and "config.json" in paths:
        auto = _AUTO_CLASSES.get(info.task or "", "AutoModel")
        code = (
            f"from transformers import {auto}, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
            f'model = {auto}.from_pretrained("{name}")'
        )
        found.append(Snippet("transformers (Python)", _python(shell, code)))
    elif "tokenizer.json" in paths:
        code = (
            "from transformers import AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")'
        )
        found.append(Snippet("transformers (Python)", _python(shell, code)))
    if info.task == "text-generation":
        found.append(Snippet("Run it with curl", _curl(name, base_url, needs_token=needs_token)))
        found.append(Snippet("Run it from Python", _inference(name, base_url, shell)))
    elif info.task in _CLIENT_METHODS:
        code = _posted(f'{{"inputs": "{_SAMPLE}"}}', name, base_url, needs_token=needs_token)
        found.append(Snippet("Run it with curl", code))
        method = _CLIENT_METHODS[info.task]
        found.append(Snippet("Run it from Python", _called(method, name, base_url, shell)))
    if "tokenizer.json" in paths:
        code = _transformers_js(name, base_url, needs_token=needs_token)
        found.append(Snippet("Transformers.js (Node)", code))
    return found


def _shell(base_url: str, needs_token: bool) -> str:
    lines = [f"export HF_ENDPOINT={base_url}"]
    if needs_token:
        lines.append("export HF_TOKEN=hf_…  # your access token")
    return "\n".join(lines)


def _python(shell: str, code: str) -> str:
    comment = "\n".join(f"# {line}" for line in shell.splitlines())
    return f"# In the shell, before Python starts:\n{comment}\n\n{code}"


def _hf_download(repository: Repository) -> str:
    kind = "" if repository.kind is RepoKind.MODEL else f" --repo-type {repository.kind.value}"
    return f"hf download {repository.repo_id}{kind}"


def _git(repository: Repository, base_url: str, *, needs_token: bool) -> str:
    comment = "# git asks for a password: paste an access token. Any user name will do.\n"
    return (
        f"{comment if needs_token else ''}git lfs install\ngit clone {base_url}/{repository.path}"
    )


def _curl(name: str, base_url: str, *, needs_token: bool) -> str:
    body = '{"inputs": "Once upon a time", "parameters": {"max_new_tokens": 60}}'
    return _posted(body, name, base_url, needs_token=needs_token)


def _posted(body: str, name: str, base_url: str, *, needs_token: bool) -> str:
    header = '  -H "Authorization: Bearer $HF_TOKEN" \\\n' if needs_token else ""
    return (
        f"curl {base_url}/models/{name} \\\n{header}"
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{body}'"
    )


def _called(method: str, name: str, base_url: str, shell: str) -> str:
    code = (
        "from huggingface_hub import InferenceClient\n\n"
        f'client = InferenceClient(model="{base_url}/models/{name}")\n'
        f'print(client.{method}("{_SAMPLE}"))'
    )
    return _python(shell, code)


def _inference(name: str, base_url: str, shell: str) -> str:
    code = (
        "from huggingface_hub import InferenceClient\n\n"
        f'client = InferenceClient(model="{base_url}/models/{name}")\n'
        'for token in client.text_generation("Once upon a time", max_new_tokens=60, stream=True):\n'
        '    print(token, end="", flush=True)'
    )
    return _python(shell, code)


def _transformers_js(name: str, base_url: str, *, needs_token: bool) -> str:
    # The package sends its token to the public hub alone; for another host `env.fetch` adds it.
    fetch = (
        "// On your server only: a token in a web page is refused.\n"
        "env.fetch = (url, options) => fetch(url, { ...options, headers: {\n"
        "  ...Object.fromEntries(new Headers(options?.headers)),\n"
        "  Authorization: `Bearer ${process.env.HF_TOKEN}` } });\n"
    )
    return (
        "import { AutoTokenizer, env } from '@huggingface/transformers';\n\n"
        f"env.remoteHost = '{base_url}/';\n"
        "env.allowLocalModels = false;\n"
        f"{fetch if needs_token else ''}\n"
        f"const tokenizer = await AutoTokenizer.from_pretrained('{name}');\n"
        "console.log(tokenizer.encode('Hello world!'));"
    )
