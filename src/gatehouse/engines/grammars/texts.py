"""Grammars of callers to the one form that llguidance compiles. Pure text, no vocabulary."""

import json
from typing import Any

from llguidance import LLMatcher, LLParserLimits, regex_to_lark

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import Grammar, GrammarKind

MAX_CHARACTERS = 131_072
# The JSON reader of llguidance ends at 128.
MAX_NESTING = 100
# Endless white space would be allowed otherwise, and small models love it: one space, or a new line
# with its indentation. A schema may say something else under `x-guidance`.
_JSON_OPTIONS: Any = {"whitespace_pattern": r"(\n[ ]{0,32}|[ ])?"}
_LONGEST_REASON = 300
_NOISE = "<non-verbose/>"
_NOTHING_MATCHES = "NoExtensionBias"

# A step may do half the work that the library allows, and keep a twelfth of its states: a bomb then
# ends after 40 MB, and honest enumerations of some thousand values pass.
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=50_000,
    max_lexer_states=20_000,
    max_grammar_size=100_000,
    # The cost of compiling must not depend on the vocabulary: the check does not know it.
    precompute_large_lexemes=False,
    verbose_errors=False,
)


class GrammarInvalid(GatehouseError):
    """The grammar cannot be used; the message says why."""


class GrammarNotChecked(GrammarInvalid):
    """Nobody knows whether the grammar can be used; asking again later may help."""


def compilable_text(grammar: Grammar) -> str:
    """The grammar as llguidance reads it.

    Raises:
        GrammarInvalid: It is too long, nested too deeply, or no JSON where JSON must be.
    """
    if len(grammar.text) > MAX_CHARACTERS:
        raise GrammarInvalid(f"it is longer than {MAX_CHARACTERS} characters")
    if not _is_encodable(grammar.text):
        raise GrammarInvalid("it holds half of a surrogate pair")
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return _from_schema('{"type":"object"}')
        case GrammarKind.JSON_SCHEMA:
            return _from_schema(_checked_schema(grammar.text))
        case GrammarKind.REGEX:
            # `\d` means the ten digits, as it does in the regular expressions of JSON schemas.
            slashed = regex_to_lark(grammar.text, use_ascii="d")
            return str(LLMatcher.grammar_from_lark(f"start: /{slashed}/"))
        case GrammarKind.LARK:
            return str(LLMatcher.grammar_from_lark(grammar.text))


def compile_error(matcher: LLMatcher) -> str:
    """Why a matcher is of no use, in one line; empty if it is fine."""
    if not matcher.is_error():
        return ""
    error = str(matcher.get_error())
    if _NOTHING_MATCHES in error:
        return "no text matches it"
    lines = error.replace(_NOISE, "").strip().splitlines()
    # The regex parser's own sentence is further down: `error: unclosed group`.
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (said or lines or ["unknown error"])[0].strip()[:_LONGEST_REASON]


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_schema(text: str) -> str:
    try:
        return str(LLMatcher.grammar_from_json_schema(text, defaults=_JSON_OPTIONS))
    except ValueError as error:
        raise GrammarInvalid(str(error).splitlines()[0][:_LONGEST_REASON]) from error


def _checked_schema(text: str) -> str:
    try:
        schema = json.loads(text)
    except RecursionError as error:
        raise GrammarInvalid(f"the schema is nested deeper than {MAX_NESTING}") from error
    except ValueError as error:
        raise GrammarInvalid("the schema is not JSON") from error
    if schema is True:
        return "{}"
    if not isinstance(schema, dict):
        raise GrammarInvalid("the schema must be an object")
    _refuse_deep(schema)
    return text


def _refuse_deep(schema: dict[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_NESTING):
        level = [inner for value in level for inner in _children(value)]
        if not level:
            return
    raise GrammarInvalid(f"the schema is nested deeper than {MAX_NESTING}")


def _children(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value
    return [child for child in inner if isinstance(child, dict | list)]
