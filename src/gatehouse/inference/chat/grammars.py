"""Grammars for answers that must be calls of tools, or of a certain format, or either.

Written in the Lark dialect of llguidance, https://github.com/guidance-ai/llguidance, where `%json`
stands for any text of a JSON Schema and `<[7]>` for the token with that id.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatehouse.engines.base import Grammar, GrammarKind
from gatehouse.inference.chat.dialects import Dialect
from gatehouse.inference.chat.tools import Tool
from gatehouse.inference.errors import ValidationFailed

# A model that goes on calling would do so until its tokens are used up.
MAX_BOUND_CALLS = 16
_DEFINITIONS = ("$defs", "definitions")
# Other layout would let a model write blanks for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True)
class ThoughtBounds:
    """Where the reasoning before an answer begins and ends.

    Attributes:
        start: Text before it.
        end: Text after it.
        is_open: It has begun in the prompt.
    """

    start: str
    end: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class BoundAnswer:
    """What an answer must be.

    Attributes:
        tools: Those that may be called; none if it must be of the format.
        answer_format: What it must match otherwise; None if it must be a call.
        may_be_text: Free text may come before, or instead.
        max_calls: In one answer.
        thought: None without reasoning.
    """

    dialect: Dialect
    tools: tuple[Tool, ...] = ()
    answer_format: Grammar | None = None
    may_be_text: bool = False
    max_calls: int = 1
    thought: ThoughtBounds | None = None

    @property
    def binds_calls(self) -> bool:
        """Whether what begins as a call is one for certain."""
        return bool(self.tools) and (bool(self.dialect.opening) or self.answer_format is None)


def build_grammar(answer: BoundAnswer, token_ids: Mapping[str, int]) -> Grammar:
    """The grammar that only such answers match.

    Args:
        answer: What must be generated.
        token_ids: Of the markers that are tokens of their own; they may be special ones, which no
            text in a grammar matches.
    """
    if answer.answer_format is not None and not answer.tools and answer.thought is None:
        return answer.answer_format
    rules = _Rules(token_ids)
    parts = [rules.thought(answer.thought)] if answer.thought is not None else []
    kinds = []
    if answer.tools:
        kinds.append(rules.calls(answer))
    if answer.answer_format is not None:
        kinds.append(rules.content(answer.answer_format))
    parts.append(" | ".join(kinds) if len(kinds) == 1 else f"({' | '.join(kinds)})")
    return Grammar(GrammarKind.LARK, "\n".join([f"start: {' '.join(parts)}", *rules.lines]))


class _Rules:
    """Collects rules; each method adds some and gives the expression that stands for them."""

    def __init__(self, token_ids: Mapping[str, int]) -> None:
        self._token_ids = token_ids
        self.lines: list[str] = []

    def thought(self, bounds: ThoughtBounds) -> str:
        self._free_text()
        body = f"({self._up_to('thought', bounds.end)}) LAYOUT"
        self._add("LAYOUT", r"/[ \n]{0,2}/")
        if bounds.is_open:
            return body
        self._add("thinking", f"{self._marker(bounds.start)} {body}")
        return "thinking?"

    def calls(self, answer: BoundAnswer) -> str:
        dialect = answer.dialect
        names = [self._call(dialect, tool, place) for place, tool in enumerate(answer.tools)]
        self._add("call", " | ".join(names))
        more = answer.max_calls - 1 if dialect.takes_several else 0
        if answer.may_be_text:
            self._free_text()
            one = f"({self._up_to('talk', dialect.opening)}) {self._enclosed(dialect, more)}"
            self._add("answer", f"{one} | TEXT")
            return "answer"
        if dialect.is_list:
            self._add("calls", f"{self._opening(dialect)} {self._list(more)}")
        else:
            one = f"{self._opening(dialect)} call {self._closing(dialect)}"
            self._add("one_call", one)
            self._add("calls", f'one_call ("\\n" one_call){{0,{more}}}' if more else "one_call")
        return "calls"

    def content(self, answer_format: Grammar) -> str:
        if answer_format.kind is GrammarKind.REGEX:
            self._add("content", f"/{_escaped(answer_format.text)}/")
        elif answer_format.kind is GrammarKind.JSON_OBJECT:
            schema = {"type": "object", "x-guidance": _LAYOUT}
            self._add("content", f"%json {json.dumps(schema)}")
        else:
            schema = json.loads(answer_format.text) | {"x-guidance": _LAYOUT}
            self._add("content", f"%json {json.dumps(schema)}")
        return "content"

    def _enclosed(self, dialect: Dialect, more: int) -> str:
        """What follows an opening that has just been written, in free text."""
        if dialect.is_list:
            return f"{_quoted(dialect.before)} {self._list(more)}"
        first = f"{_quoted(dialect.before)} call {self._closing(dialect)}"
        if not more:
            return first
        self._add("next_call", f'"\\n" {self._opening(dialect)} call {self._closing(dialect)}')
        return f"{first} next_call{{0,{more}}}"

    def _list(self, more: int) -> str:
        return f'"[" call (", " call){{0,{more}}} "]"' if more else '"[" call "]"'

    def _call(self, dialect: Dialect, tool: Tool, place: int) -> str:
        self._add(f"call_{place}", f"%json {json.dumps(_call_schema(dialect, tool))}")
        return f"call_{place}"

    def _opening(self, dialect: Dialect) -> str:
        if not dialect.opening:
            return ""
        return f"{self._marker(dialect.opening)} {_quoted(dialect.before)}"

    def _closing(self, dialect: Dialect) -> str:
        if not dialect.closing:
            return ""
        return f"{_quoted(dialect.after)} {self._marker(dialect.closing)}"

    def _marker(self, text: str) -> str:
        token_id = self._token_ids.get(text)
        return _quoted(text) if token_id is None else f"({_quoted(text)} | <[{token_id}]>)"

    def _up_to(self, name: str, marker: str) -> str:
        """Free text that ends with the first marker, be that a token of its own or not."""
        self._add(f"{name}[lazy]", f"TEXT {_quoted(marker)}")
        token_id = self._token_ids.get(marker)
        return name if token_id is None else f"{name} | TEXT <[{token_id}]>"

    def _free_text(self) -> None:
        self._add("TEXT", "/(?s:.*)/")

    def _add(self, name: str, expression: str) -> None:
        line = f"{name}: {expression}"
        if line not in self.lines:
            self.lines.append(line)


def _call_schema(dialect: Dialect, tool: Tool) -> dict[str, Any]:
    """JSON Schema of one call. Keys come in this order, and so the name first."""
    parameters = dict(tool.parameters)
    # References in the parameters are from their root, which is the call's from now on.
    shared = {key: parameters.pop(key) for key in _DEFINITIONS if key in parameters}
    return shared | {
        "type": "object",
        "properties": {"name": {"const": tool.name}, dialect.arguments_key: parameters},
        "required": ["name", dialect.arguments_key],
        "additionalProperties": False,
        "x-guidance": _LAYOUT,
    }


def _quoted(text: str) -> str:
    """A string of the grammar; its escapes are those of JSON."""
    return json.dumps(text)


def _escaped(regex: str) -> str:
    """A regular expression as it stands between slashes, which it cannot leave."""
    parts = []
    signs: Sequence[str] = list(regex)
    is_escaped = False
    for sign in signs:
        if sign == "\n":
            parts.append("n" if is_escaped else "\\n")
        elif sign == "/" and not is_escaped:
            parts.append("\\/")
        else:
            parts.append(sign)
        is_escaped = sign == "\\" and not is_escaped
    if is_escaped:
        raise ValidationFailed("grammar is not valid: the regular expression ends with a backslash")
    return "".join(parts)
