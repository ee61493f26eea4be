"""What callers ask the answer to match, in all the ways they write it, as an engine's `Grammar`.

Only the shape is checked here. The engine compiles it, with limits, and refuses what is no grammar.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gatehouse.engines.base import Grammar, GrammarKind
from gatehouse.inference.errors import ValidationFailed

_KINDS = "`json`, `json_object`, `json_schema` or `regex`"


def read_grammar(value: Any, *, needs_properties: bool = True) -> Grammar | None:
    """Read `{"type": ..., "value": ...}`, or OpenAI's `response_format`; None asks for nothing.

    Args:
        value: As it was sent: `json` with a schema as object or text, `json_object` with one or
            alone, `json_schema` with `{"schema": ...}`, `regex`, or `text`.
        needs_properties: Refuse a schema without `properties`, as text-generation-inference does.

    Raises:
        ValidationFailed: It is none of these.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise not_valid("it must be an object with `type` and `value`")
    kind, content = value.get("type"), value.get("value")
    if kind == "text":
        return None
    if kind == "regex":
        if not isinstance(content, str) or not content:
            raise not_valid("the `value` of a regex must be a text")
        return Grammar(GrammarKind.REGEX, content)
    if kind == "json_object" and content is None:
        return Grammar(GrammarKind.JSON_OBJECT)
    if kind in ("json", "json_object"):
        return _schema(content, needs_properties=needs_properties)
    if kind == "json_schema":
        config = value.get("json_schema") if content is None else content
        schema = config.get("schema") if isinstance(config, Mapping) else None
        return _schema(schema, needs_properties=needs_properties)
    raise not_valid(f"`type` must be {_KINDS}")


def not_valid(why: str) -> ValidationFailed:
    return ValidationFailed(f"grammar is not valid: {why}")


def _schema(schema: Any, *, needs_properties: bool) -> Grammar:
    if isinstance(schema, str):
        schema = _decoded(schema)
    if not isinstance(schema, Mapping):
        raise ValidationFailed("grammar is not supported")
    if needs_properties and "properties" not in schema:
        raise not_valid("Grammar must have a 'properties' field")
    try:
        # In the order it was sent: that is the order in which keys are written.
        text = msgspec.json.encode(typed_schema(schema)).decode()
    except RecursionError:
        raise not_valid("it is nested too deeply") from None
    return Grammar(GrammarKind.JSON_SCHEMA, text)


def typed_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same schema, of objects if it names properties.

    By JSON Schema's own rules any text or number would match it too; text-generation-inference,
    whose examples leave the type out, writes an object.
    """
    return {"type": "object", **schema} if "properties" in schema else schema


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise not_valid(str(error)) from None
