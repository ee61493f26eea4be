"""`response_format`: what shape the answer must have."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gatehouse.engines.base import Grammar, GrammarKind
from gatehouse.inference.chat.nesting import refuse_deep
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.grammars import typed_schema

_SCHEMA_TYPES = frozenset({"json", "json_object", "json_schema"})


def read_response_format(value: Any) -> Grammar | None:
    """OpenAI's forms and those of text-generation-inference; None for free text.

    Raises:
        ValidationFailed: It has another form.
    """
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "regex":
        return _regex(value.get("value"))
    if not isinstance(kind, str) or kind not in _SCHEMA_TYPES:
        raise ValidationFailed(
            "`response_format.type` must be one of `text`, `json_object`, `json_schema`, `json`, "
            "`regex`"
        )
    schema = _schema(value.get("value"))
    if kind == "json_schema":
        schema = _inner_schema(value)
    if schema is None:
        return Grammar(GrammarKind.JSON_OBJECT)
    return Grammar(GrammarKind.JSON_SCHEMA, msgspec.json.encode(typed_schema(schema)).decode())


def _regex(value: Any) -> Grammar:
    if not isinstance(value, str) or not value:
        raise ValidationFailed("`response_format.value` must be a regular expression")
    return Grammar(GrammarKind.REGEX, value)


def _inner_schema(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """OpenAI nests the schema in `json_schema`, text-generation-inference in `value`."""
    outer = value.get("json_schema")
    if outer is None:
        outer = _schema(value.get("value"))
    if not isinstance(outer, Mapping):
        raise ValidationFailed("`response_format.json_schema` must be an object with `schema`")
    schema = outer.get("schema")
    if schema is None and value.get("json_schema") is None:
        schema = outer
    return _schema(schema)


def _schema(value: Any) -> Mapping[str, Any] | None:
    """A JSON Schema: an object, or its JSON text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValidationFailed(f"`response_format` holds no JSON: {error}") from error
    if value is not None and not isinstance(value, Mapping):
        raise ValidationFailed("`response_format` must hold a JSON Schema, which is an object")
    refuse_deep(value, "response_format")
    return value
