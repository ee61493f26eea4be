"""What a repository says about itself at a commit: card, configuration, task, tags.

Everything here is computed from the files and kept per commit, which never changes.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gatehouse.core.ids import RepoKind
from gatehouse.repos.cards import read_card
from gatehouse.repos.files import File, Files
from gatehouse.repos.repository import Repository

_MAX_CARD_BYTES = 1024 * 1024
_MAX_CONFIG_BYTES = 1024 * 1024
_ESCAPE = b"\\u"
_CACHED_INFOS = 2_000

# Endings of the class names in `config.json`'s `architectures`, longest first, and the task they
# run.
_TASK_BY_ARCHITECTURE = {
    "WhisperForConditionalGeneration": "automatic-speech-recognition",
    "T5WithLMHeadModel": "text2text-generation",
    "EncoderDecoderModel": "text2text-generation",
    "MarianMTModel": "translation",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForConditionalGeneration": "text2text-generation",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForCTC": "automatic-speech-recognition",
    "BertModel": "feature-extraction",
    "RobertaModel": "feature-extraction",
    "MPNetModel": "feature-extraction",
}
_SENTENCE_TRANSFORMERS = "sentence-transformers"
# A sentence model is asked for either; clients look for the one they want among the tags.
_SENTENCE_TASKS = ("sentence-similarity", "feature-extraction")


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """One repository at one commit.

    Attributes:
        files: Every file, in git's order.
        metadata: The card's front matter, JSON-safe; empty if there is none or it is broken.
        readme: The card's body in Markdown, or None without a README.md.
        config: The parts of `config.json` that clients read, or None.
        task: The pipeline tag, given by the card or inferred from the architecture.
    """

    commit_oid: str
    files: tuple[File, ...]
    metadata: dict[str, Any]
    readme: str | None
    config: dict[str, Any] | None
    task: str | None
    library: str | None
    tags: tuple[str, ...]
    has_chat_template: bool


class Infos:
    def __init__(self, files: Files) -> None:
        self._files = files
        self._cached = lru_cache(_CACHED_INFOS)(self._read)

    def at(self, repository: Repository, commit_oid: str) -> RepoInfo:
        return self._cached(_Key(repository, commit_oid))

    def _read(self, key: "_Key") -> RepoInfo:
        repository, commit_oid = key.repository, key.commit_oid
        entries = self._files.tree(repository, commit_oid, recursive=True)
        files = tuple(file for file in entries if not file.is_directory)
        paths = {file.path for file in files}
        metadata, readme = self._card(repository, commit_oid)
        config = self._json(repository, commit_oid, "config.json")
        tokenizer = self._json(repository, commit_oid, "tokenizer_config.json") or {}
        has_template = bool(tokenizer.get("chat_template")) or "chat_template.jinja" in paths
        is_model = repository.kind is RepoKind.MODEL
        task = _task(metadata, config, paths) if is_model else None
        library = _library(metadata, config, paths) if is_model else None
        return RepoInfo(
            commit_oid=commit_oid,
            files=files,
            metadata=metadata,
            readme=readme,
            config=_public_config(config),
            task=task,
            library=library,
            tags=tuple(_tags(metadata, paths, task, library, has_template)),
            has_chat_template=has_template,
        )

    def _card(self, repository: Repository, commit_oid: str) -> tuple[dict[str, Any], str | None]:
        data = self._files.read_small(repository, commit_oid, "README.md", _MAX_CARD_BYTES)
        if data is None:
            return {}, None
        card = read_card(data.decode("utf-8", "replace"))
        return card.metadata, card.body

    def _json(self, repository: Repository, commit_oid: str, path: str) -> dict[str, Any] | None:
        data = self._files.read_small(repository, commit_oid, path, _MAX_CONFIG_BYTES)
        if data is None:
            return None
        try:
            value = json.loads(data)
            if _ESCAPE in data:
                # Halves of surrogate pairs would make every answer that they are in impossible.
                whole = json.dumps(value, ensure_ascii=False).encode(errors="replace")
                value = json.loads(whole)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """Equal for the same content, whatever the row says of visibility or names."""

    repository: Repository
    commit_oid: str

    def __hash__(self) -> int:
        return hash((self.repository.storage_id, self.commit_oid))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Key)
            and other.commit_oid == self.commit_oid
            and other.repository.storage_id == self.repository.storage_id
        )


def _task(metadata: dict[str, Any], config: dict[str, Any] | None, paths: set[str]) -> str | None:
    given = metadata.get("pipeline_tag")
    if isinstance(given, str):
        return given
    if "modules.json" in paths:
        return _SENTENCE_TASKS[0]
    architectures = (config or {}).get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(name, str):
        return None
    if name.endswith("ForConditionalGeneration") and "vision_config" in (config or {}):
        return "image-text-to-text"
    return next((task for end, task in _TASK_BY_ARCHITECTURE.items() if name.endswith(end)), None)


def _library(
    metadata: dict[str, Any], config: dict[str, Any] | None, paths: set[str]
) -> str | None:
    given = metadata.get("library_name")
    if isinstance(given, str):
        return given
    if "model_index.json" in paths:
        return "diffusers"
    if "modules.json" in paths:
        return _SENTENCE_TRANSFORMERS
    return "transformers" if config and "model_type" in config else None


def _tags(
    metadata: dict[str, Any],
    paths: set[str],
    task: str | None,
    library: str | None,
    has_template: bool,
) -> list[str]:
    tags = [library, task, *_strings(metadata.get("tags"))]
    if any(path.endswith(".safetensors") for path in paths):
        tags.append("safetensors")
    if has_template:
        tags.append("conversational")
    if library == _SENTENCE_TRANSFORMERS and task in _SENTENCE_TASKS:
        tags += _SENTENCE_TASKS
    tags += _strings(metadata.get("language"))
    tags += [f"dataset:{name}" for name in _strings(metadata.get("datasets"))]
    tags += [f"license:{name}" for name in _strings(metadata.get("license"))]
    return list(dict.fromkeys(tag for tag in tags if tag))


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _public_config(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    return {key: config[key] for key in ("architectures", "model_type") if key in config}
