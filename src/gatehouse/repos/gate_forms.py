"""The form that a gated repository puts before those who want in, and the check of its answers.

The keys are those of the public Hub's documentation (hub-docs, `models-gated.md`). Who is let in is
decided in `gating.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from gatehouse.core.errors import Invalid
from gatehouse.repos.countries import COUNTRIES
from gatehouse.repos.front_matter import JsonValue

MAX_FIELDS = 50
MAX_OPTIONS = 400
MAX_NAME_LENGTH = 500
MAX_ANSWER_LENGTH = 2000

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class GateFieldType(StrEnum):
    TEXT = "text"
    CHECKBOX = "checkbox"
    DATE = "date_picker"
    COUNTRY = "country"
    SELECT = "select"


@dataclass(frozen=True, slots=True)
class GateOption:
    value: str
    label: str


@dataclass(frozen=True, slots=True)
class GateField:
    """One question. `options` is filled for `select` and `country`."""

    name: str
    type: GateFieldType
    options: tuple[GateOption, ...] = ()


@dataclass(frozen=True, slots=True)
class GateForm:
    """Texts are empty where the card gives none; `prompt` and `description` are Markdown."""

    heading: str = ""
    prompt: str = ""
    description: str = ""
    button: str = ""
    fields: tuple[GateField, ...] = ()


class InvalidGateForm(Invalid):
    """The card's `extra_gated_*` keys cannot be made into a form."""


class InvalidGateAnswer(Invalid):
    """An answer is missing or does not fit its field.

    Attributes:
        field: The name of the field.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"`{field}`: {problem}")
        self.field = field


def read_gate_form(metadata: Mapping[str, JsonValue]) -> GateForm:
    """Read the form from a card's metadata.

    Raises:
        InvalidGateForm: A key has the wrong shape; the message names it.
    """
    return GateForm(
        heading=_text(metadata, "extra_gated_heading"),
        prompt=_text(metadata, "extra_gated_prompt"),
        description=_text(metadata, "extra_gated_description"),
        button=_text(metadata, "extra_gated_button_content"),
        fields=_fields(metadata.get("extra_gated_fields")),
    )


def check_gate_answers(form: GateForm, answers: Mapping[str, object]) -> dict[str, str | bool]:
    """Return the answers in the order of the form; names that are not in it are dropped.

    Every field must be answered and every box ticked, as on the public Hub.

    Raises:
        InvalidGateAnswer: An answer is missing or does not fit.
    """
    return {field.name: _answer(field, answers.get(field.name)) for field in form.fields}


def _answer(field: GateField, given: object) -> str | bool:
    if field.type is GateFieldType.CHECKBOX:
        if given is True or (isinstance(given, str) and given.lower() in ("true", "on", "1")):
            return True
        raise InvalidGateAnswer(field.name, "this box has to be ticked.")
    text = given.strip() if isinstance(given, str) else ""
    if not text:
        raise InvalidGateAnswer(field.name, "an answer is required.")
    if len(text) > MAX_ANSWER_LENGTH:
        raise InvalidGateAnswer(field.name, f"at most {MAX_ANSWER_LENGTH} characters.")
    if field.type is GateFieldType.DATE:
        _check_date(field.name, text)
    if field.options and text not in {option.value for option in field.options}:
        raise InvalidGateAnswer(field.name, "choose one of the options.")
    return text


def _check_date(name: str, text: str) -> None:
    try:
        date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError:
        raise InvalidGateAnswer(name, "write the date as `YYYY-MM-DD`.") from None


def _text(metadata: Mapping[str, JsonValue], key: str) -> str:
    value = metadata.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidGateForm(f"`{key}` must be a text.")
    return value.strip()


def _fields(value: JsonValue) -> tuple[GateField, ...]:
    """A mapping of name to type, or a list of such mappings: both occur in published cards."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        pairs = [pair for item in value if isinstance(item, dict) for pair in item.items()]
    elif isinstance(value, dict):
        pairs = list(value.items())
    elif value is None:
        return ()
    else:
        raise InvalidGateForm("`extra_gated_fields` must be a mapping of names to types.")
    if len(pairs) > MAX_FIELDS:
        raise InvalidGateForm(f"`extra_gated_fields` may hold at most {MAX_FIELDS} fields.")
    fields = tuple(_field(name, shape) for name, shape in pairs)
    if len({field.name for field in fields}) < len(fields):
        raise InvalidGateForm("`extra_gated_fields` gives a name twice.")
    return fields


def _field(name: str, shape: JsonValue) -> GateField:
    where = f"`extra_gated_fields.{name[:100]}`"
    if not name.strip() or len(name) > MAX_NAME_LENGTH:
        raise InvalidGateForm(f"{where} needs a name of 1 to {MAX_NAME_LENGTH} characters.")
    given = shape.get("type") if isinstance(shape, dict) else shape
    if not isinstance(given, str) or given not in set(GateFieldType):
        raise InvalidGateForm(f"{where} must be one of {', '.join(GateFieldType)}.")
    kind = GateFieldType(given)
    if kind is GateFieldType.COUNTRY:
        return GateField(name, kind, tuple(GateOption(*country) for country in COUNTRIES))
    if kind is GateFieldType.SELECT:
        return GateField(name, kind, _options(where, shape))
    return GateField(name, kind)


def _options(where: str, shape: JsonValue) -> tuple[GateOption, ...]:
    given = shape.get("options") if isinstance(shape, dict) else None
    if not isinstance(given, list) or not 0 < len(given) <= MAX_OPTIONS:
        raise InvalidGateForm(f"{where}.options must be a list of 1 to {MAX_OPTIONS} options.")
    return tuple(_option(where, item) for item in given)


def _option(where: str, item: JsonValue) -> GateOption:
    if isinstance(item, str | int | float) and not isinstance(item, bool):
        return GateOption(str(item), str(item))
    label = item.get("label") if isinstance(item, dict) else None
    value = item.get("value", label) if isinstance(item, dict) else None
    if not isinstance(label, str) or not isinstance(value, str):
        raise InvalidGateForm(f"{where}.options must be texts, or pairs of `label` and `value`.")
    return GateOption(value, label)
