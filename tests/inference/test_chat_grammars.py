"""Grammars for calls and formats, run by llguidance: what they let through, and what not."""

import json
import random
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from gatehouse.engines.base import Grammar, GrammarKind, ToolMarkup
from gatehouse.engines.grammars.texts import compilable_text
from gatehouse.inference.chat.bound_calls import BoundCalls
from gatehouse.inference.chat.deltas import CallArguments, CallEnd, CallStart, Text
from gatehouse.inference.chat.dialects import Dialect, dialect_of
from gatehouse.inference.chat.free_calls import FreeCalls
from gatehouse.inference.chat.grammars import BoundAnswer, ThoughtBounds, build_grammar
from gatehouse.inference.chat.tools import Tool
from gatehouse.inference.errors import ValidationFailed

CITY = {"type": "string", "enum": ["Oslo", 'a "b" \\ {']}
WEATHER = Tool(
    "get_weather",
    None,
    {
        "type": "object",
        "properties": {"city": CITY, "days": {"type": "array", "items": {"type": "boolean"}}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TIME = Tool("get.time", None, {"type": "object", "properties": {}, "additionalProperties": False})
DIALECTS = [dialect_of(markup) for markup in (None, *ToolMarkup)]
OBJECT = Grammar(GrammarKind.JSON_OBJECT)
SCHEMA = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object", "properties": {"a": {"const": 1}}}')
THOUGHT = ThoughtBounds("<think>", "</think>", is_open=False)
# Of the tokenizer of bytes: 0 to 255 are bytes, and some above are special.
SPECIAL_ID = 257


def matches(grammar: Grammar, *parts: str | int) -> bool:
    """Whether a text, or a beginning of special tokens and text, is all that the grammar wants."""
    matcher = matcher_of(grammar)
    for part in parts:
        tokens = [part] if isinstance(part, int) else list(part.encode())
        if not all(matcher.consume_token(token) for token in tokens):
            return False
    return bool(matcher.is_accepting())


def matcher_of(grammar: Grammar) -> LLMatcher:
    matcher = LLMatcher(LLTokenizer("byte"), compilable_text(grammar), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def a_text_of(grammar: Grammar, seed: int) -> str:
    """Any text that the grammar lets through, by choosing at random among what may come."""
    chooser = random.Random(seed)
    matcher = matcher_of(grammar)
    written = bytearray()
    while not matcher.is_stopped():
        mask = matcher.compute_logit_bias()
        allowed = [token for token, bias in enumerate(mask[:256]) if bias]
        if not allowed or (matcher.is_accepting() and chooser.random() < 0.5):
            break
        token = chooser.choice(allowed)
        assert matcher.consume_token(token)
        written.append(token)
    return written.decode()


def call_text(dialect: Dialect, name: str, arguments: str) -> str:
    call = f'{{"name": "{name}", "{dialect.arguments_key}": {arguments}}}'
    inside = f"[{call}]" if dialect.is_list else call
    return f"{dialect.opening}{dialect.before}{inside}{dialect.after}{dialect.closing}"


@pytest.mark.parametrize("dialect", DIALECTS)
class TestCalls:
    def test_only_calls_of_the_tools_are_let_through(self, dialect: Dialect) -> None:
        grammar = build_grammar(BoundAnswer(dialect, (WEATHER, TIME)), {})
        good = '{"city": "Oslo", "days": [true, false]}'
        assert matches(grammar, call_text(dialect, "get_weather", good))
        assert matches(grammar, call_text(dialect, "get.time", "{}"))
        assert not matches(grammar, call_text(dialect, "get_time", "{}"))
        assert not matches(grammar, call_text(dialect, "get_weather", '{"city": "Rome"}'))
        assert not matches(grammar, call_text(dialect, "get_weather", "{}"))
        assert not matches(grammar, "Hello")

    def test_several_calls_need_leave(self, dialect: Dialect) -> None:
        calls = [call_text(dialect, "get.time", "{}")] * 2
        text = "\n".join(calls)
        if dialect.is_list:
            inner = f'{{"name": "get.time", "{dialect.arguments_key}": {{}}}}'
            text = f"{dialect.opening}{dialect.before}[{inner}, {inner}]"
        assert not matches(build_grammar(BoundAnswer(dialect, (TIME,)), {}), text)
        several = build_grammar(BoundAnswer(dialect, (TIME,), max_calls=2), {})
        assert matches(several, text) is dialect.takes_several

    def test_whatever_comes_through_is_read_as_calls(self, dialect: Dialect) -> None:
        grammar = build_grammar(BoundAnswer(dialect, (WEATHER, TIME), max_calls=3), {})
        for seed in range(10):
            text = a_text_of(grammar, seed)
            for reader in (BoundCalls(dialect), FreeCalls(dialect, {"get_weather", "get.time"})):
                deltas = reader.feed(text) + reader.flush()
                assert not [delta for delta in deltas if isinstance(delta, Text)], text
                starts = [delta for delta in deltas if isinstance(delta, CallStart)]
                ends = [delta for delta in deltas if isinstance(delta, CallEnd)]
                assert starts
                assert len(starts) == len(ends) == reader.num_calls
                for delta in deltas:
                    if isinstance(delta, CallArguments):
                        assert isinstance(json.loads(delta.text), dict)

    def test_format_stands_beside_calls(self, dialect: Dialect) -> None:
        grammar = build_grammar(BoundAnswer(dialect, (TIME,), SCHEMA), {})
        assert matches(grammar, '{"a": 1}')
        assert not matches(grammar, '{"a": 2}')
        assert matches(grammar, call_text(dialect, "get.time", "{}"))


def test_marker_may_be_a_token_or_spelled_out() -> None:
    dialect = dialect_of(ToolMarkup.MISTRAL)
    grammar = build_grammar(BoundAnswer(dialect, (TIME,)), {"[TOOL_CALLS]": SPECIAL_ID})
    rest = ' [{"name": "get.time", "arguments": {}}]'
    assert matches(grammar, SPECIAL_ID, rest)
    assert matches(grammar, "[TOOL_CALLS]" + rest)


def test_free_text_is_bound_from_the_first_opening_on() -> None:
    dialect = dialect_of(ToolMarkup.HERMES)
    answer = BoundAnswer(dialect, (TIME,), may_be_text=True, max_calls=2)
    grammar = build_grammar(answer, {})
    call = call_text(dialect, "get.time", "{}")
    assert matches(grammar, "Just text, with <tool and { in it.")
    assert matches(grammar, f"Let me see.\n{call}\n{call}")
    assert not matches(grammar, "Let me see.<tool_call>\nno call")
    assert not matches(grammar, "<tool_call>\nno call")


class TestReasoning:
    def test_reasoning_is_free_and_the_answer_is_not(self) -> None:
        answer = BoundAnswer(DIALECTS[0], (), SCHEMA, thought=THOUGHT)
        grammar = build_grammar(answer, {})
        assert matches(grammar, '<think>any </thing> at\nall</think>\n\n{"a": 1}')
        assert matches(grammar, '{"a": 1}')
        assert not matches(grammar, "<think>any</think>any")
        assert not matches(grammar, "any")

    def test_reasoning_that_is_open_must_be_closed(self) -> None:
        thought = ThoughtBounds("<think>", "</think>", is_open=True)
        grammar = build_grammar(BoundAnswer(DIALECTS[0], (TIME,), thought=thought), {})
        call = call_text(DIALECTS[0], "get.time", "{}")
        assert matches(grammar, f"any</think>{call}")
        assert not matches(grammar, call)

    def test_markers_may_be_special_tokens(self) -> None:
        ids = {"<think>": SPECIAL_ID, "</think>": SPECIAL_ID + 1}
        grammar = build_grammar(BoundAnswer(DIALECTS[0], (), OBJECT, thought=THOUGHT), ids)
        assert matches(grammar, SPECIAL_ID, "any", SPECIAL_ID + 1, '\n{"b": 2}')
        assert not matches(grammar, SPECIAL_ID, "any", SPECIAL_ID + 1, "any")


class TestRegex:
    def test_slashes_stay_inside(self) -> None:
        for regex, good in [("a/b", "a/b"), (r"a\/b", "a/b"), ("a\nb", "a\nb"), (r"\\/", "\\/")]:
            answer_format = Grammar(GrammarKind.REGEX, regex)
            answer = BoundAnswer(DIALECTS[0], (), answer_format, thought=THOUGHT)
            grammar = build_grammar(answer, {})
            assert matches(grammar, good), regex
            assert not matches(grammar, "x")

    @pytest.mark.parametrize("regex", ["a\\", "a\\\\\\"])
    def test_open_backslash_is_refused(self, regex: str) -> None:
        answer_format = Grammar(GrammarKind.REGEX, regex)
        answer = BoundAnswer(DIALECTS[0], (), answer_format, thought=THOUGHT)
        with pytest.raises(ValidationFailed, match="ends with a backslash"):
            build_grammar(answer, {})


def test_format_alone_is_passed_on_as_it_is() -> None:
    for answer_format in (OBJECT, SCHEMA, Grammar(GrammarKind.REGEX, "a")):
        assert build_grammar(BoundAnswer(DIALECTS[0], (), answer_format), {}) is answer_format


def test_references_in_parameters_are_followed() -> None:
    parameters = {
        "type": "object",
        "properties": {"where": {"$ref": "#/$defs/City"}},
        "required": ["where"],
        "$defs": {"City": CITY},
    }
    grammar = build_grammar(BoundAnswer(DIALECTS[0], (Tool("f", None, parameters),)), {})
    assert matches(grammar, call_text(DIALECTS[0], "f", '{"where": "Oslo"}'))
    assert not matches(grammar, call_text(DIALECTS[0], "f", '{"where": "Rome"}'))


def test_schema_of_a_tool_cannot_leave_its_place() -> None:
    hostile: dict[str, Any] = {"type": "object", "properties": {'"}\nstart: /x/': {"const": 1}}}
    tool = Tool("f", None, hostile | {"x-guidance": {"whitespace_flexible": True}})
    grammar = build_grammar(BoundAnswer(DIALECTS[0], (tool,)), {})
    assert not matches(grammar, "x")
    assert matches(grammar, call_text(DIALECTS[0], "f", "{}"))
