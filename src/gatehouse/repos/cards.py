"""A repository's card: `README.md` split into metadata and text, and checked.

Knows what the keys of the front matter mean to clients; how YAML is read is in `front_matter.py`,
how the text is shown is the business of `web`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gatehouse.core.errors import Invalid
from gatehouse.core.ids import RepoKind
from gatehouse.repos.front_matter import InvalidFrontMatter, JsonValue, read_front_matter
from gatehouse.repos.gate_forms import GateForm, read_gate_form

CARD_PATH = "README.md"

_OPENING = re.compile(r"\ufeff?(?:\s*\n)?---[ \t]*\r?\n")
_CLOSING = re.compile(r"^---[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_TEXT_KEYS = ("pipeline_tag", "library_name", "license_name", "pretty_name", "title", "sdk")
_TEXT_OR_LIST_KEYS = ("license", "language", "base_model")
_LIST_KEYS = ("tags", "datasets", "metrics", "task_categories", "size_categories")
_SPACE_SDKS = ("docker", "gradio", "static", "streamlit")


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says.

    Attributes:
        metadata: The front matter as JSON values; empty when there is none.
        body: The Markdown after it.
    """

    metadata: dict[str, JsonValue]
    body: str

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts under a key that may hold one or a list of them; anything else is left out."""
        value = self.metadata.get(key)
        values = value if isinstance(value, list) else [value]
        return tuple(item for item in values if isinstance(item, str) and item)

    def text(self, key: str) -> str | None:
        return next(iter(self.texts(key)), None)

    def gate_form(self) -> GateForm:
        """What the owner asks of those who want in.

        Raises:
            Invalid: The `extra_gated_*` keys break their rules.
        """
        return read_gate_form(self.metadata)


EMPTY_CARD = Card({}, "")


class ProblemKind(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class CardProblem:
    """One sentence on what is wrong. A commit is refused for an error, not for a warning."""

    kind: ProblemKind
    message: str


def parse_card(text: str) -> Card:
    """Split `README.md` into metadata and body.

    The fences are those that the Python client looks for (`huggingface_hub.repocard`): a first line
    `---`, and the next line that is `---`. Without a second fence the whole text is body.

    Raises:
        InvalidFrontMatter: There is front matter and it cannot be read.
    """
    parts = _split(text)
    if parts is None:
        return Card({}, text.removeprefix("\ufeff"))
    first_line, front_matter, body = parts
    return Card(read_front_matter(front_matter, first_line), body)


def read_card(text: str) -> Card:
    """As `parse_card`, for showing: front matter that cannot be read counts as none."""
    try:
        return parse_card(text)
    except InvalidFrontMatter:
        parts = _split(text)
        return Card({}, parts[2] if parts else text)


def validate_card(text: str, kind: RepoKind) -> tuple[CardProblem, ...]:
    """Everything that `/api/validate-yaml` has to say of a card; never raises."""
    parts = _split(text)
    if parts is None:
        opened = _OPENING.match(text) is not None
        return (_warning(_NEVER_CLOSED if opened else _NO_METADATA),)
    first_line, front_matter, _body = parts
    try:
        metadata = read_front_matter(front_matter, first_line)
    except InvalidFrontMatter as error:
        return (_error(error.message),)
    return tuple(_problems(metadata, kind))


_NO_METADATA = "The card has no metadata: start it with a block of YAML between two `---` lines."
_NEVER_CLOSED = "The front matter is opened by `---` and never closed, so it is shown as text."


def _split(text: str) -> tuple[int, str, str] | None:
    """Line number of the front matter, front matter, body."""
    opening = _OPENING.match(text)
    if opening is None:
        return None
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        return None
    first_line = text.count("\n", 0, opening.end()) + 1
    return first_line, text[opening.end() : closing.start()], text[closing.end() :]


def _problems(metadata: dict[str, JsonValue], kind: RepoKind) -> Iterator[CardProblem]:
    if not metadata:
        yield _warning(_NO_METADATA)
    yield from _shape_problems(metadata)
    yield from _model_index_problems(metadata.get("model-index"))
    try:
        read_gate_form(metadata)
    except Invalid as error:
        yield _error(error.message)
    if kind is RepoKind.SPACE and metadata.get("sdk") not in _SPACE_SDKS:
        yield _warning(f"`sdk` of a Space should be one of {', '.join(_SPACE_SDKS)}.")


def _shape_problems(metadata: dict[str, JsonValue]) -> Iterator[CardProblem]:
    for key in _TEXT_KEYS:
        if not isinstance(metadata.get(key), str | None):
            yield _error(f"`{key}` must be a text.")
    for key in _TEXT_OR_LIST_KEYS:
        value = metadata.get(key)
        if not isinstance(value, str | None) and not _is_list_of_texts(value):
            yield _error(f"`{key}` must be a text or a list of texts.")
    for key in _LIST_KEYS:
        value = metadata.get(key)
        if value is not None and not _is_list_of_texts(value):
            yield _error(f"`{key}` must be a list of texts.")


def _model_index_problems(value: JsonValue) -> Iterator[CardProblem]:
    """The Python client fails on an index without these (`huggingface_hub.repocard_data`)."""
    if value is None:
        return
    if not isinstance(value, list):
        yield _error("`model-index` must be a list.")
        return
    for number, entry in enumerate(value):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            yield _error(f"`model-index[{number}].name` must be a text.")
        elif not isinstance(entry.get("results", []), list):
            yield _error(f"`model-index[{number}].results` must be a list.")


def _is_list_of_texts(value: JsonValue) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _error(message: str) -> CardProblem:
    return CardProblem(ProblemKind.ERROR, message)


def _warning(message: str) -> CardProblem:
    return CardProblem(ProblemKind.WARNING, message)
