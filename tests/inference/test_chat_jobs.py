"""Bodies of chat completions: what is read from them, and what is refused and how."""

from typing import Any

import pytest

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import Grammar, GrammarKind, SamplingParams
from gatehouse.inference.chat import ChatJob, parse_chat
from gatehouse.inference.chat.tools import ToolMode
from gatehouse.inference.errors import ToolRefused, ValidationFailed

USER = {"role": "user", "content": "x"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA_TEXT = '{"type":"object","properties":{"a":{"type":"integer"}}}'


def parsed(**body: Any) -> ChatJob:
    return parse_chat({"messages": [USER], **body}, 100)


def messages(*given: Any) -> tuple[dict[str, Any], ...]:
    return parsed(messages=list(given)).messages


class TestMessages:
    def test_parts_are_joined_and_nulls_ignored(self) -> None:
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        message = {"role": "user", "content": parts, "name": None, "tool_calls": None}
        assert messages(message) == ({"role": "user", "content": "ab"},)

    def test_older_and_newer_roles_are_known(self) -> None:
        found = messages(
            {"role": "developer", "content": "a"},
            {"role": "function", "name": "f", "content": "b"},
        )
        assert found == (
            {"role": "system", "content": "a"},
            {"role": "tool", "content": "b", "name": "f"},
        )

    def test_calls_of_tools_are_objects_for_the_template(self) -> None:
        called, result = messages(CALLED, RESULT)
        assert called["content"] == ""
        assert called["tool_calls"] == [
            {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}, "id": "call_1"}
        ]
        assert result == {"role": "tool", "content": "42", "tool_call_id": "call_1"}

    def test_reasoning_is_handed_back(self) -> None:
        (found,) = messages({"role": "assistant", "content": "a", "reasoning_content": "b"})
        assert found["reasoning_content"] == "b"

    def test_last_message_of_the_assistant_is_continued_unless_it_calls(self) -> None:
        assert parsed(messages=[USER, {"role": "assistant", "content": "a"}]).continues_last_message
        assert not parsed(messages=[USER, CALLED]).continues_last_message
        assert not parsed().continues_last_message

    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("image_url", "is an image, but this model reads only text"),
            ("input_audio", "is audio, but this model reads only text"),
            ("video_url", "is a video, but this model reads only text"),
        ],
    )
    def test_media_is_refused_with_its_name(self, kind: str, sentence: str) -> None:
        content = [{"type": "text", "text": "a"}, {"type": kind, kind: {"url": "data:,"}}]
        with pytest.raises(ValidationFailed, match=rf"`messages\[0\].content\[1\]` {sentence}"):
            messages({"role": "user", "content": content})

    @pytest.mark.parametrize(
        "given",
        [
            None,
            [],
            "hi",
            ["hi"],
            [{"role": "wizard", "content": "x"}],
            [{"role": ["user"], "content": "x"}],
            [{"role": "user", "content": 3}],
            [{"role": "user", "content": [3]}],
            [{"role": "user", "content": [{"type": "text"}]}],
            [{"role": "user", "content": [{"type": ["text"], "text": "a"}]}],
            [{"role": "user", "content": "x", "name": 3}],
            [{**CALLED, "tool_calls": "f"}],
            [{**CALLED, "tool_calls": ["f"]}],
            [{**CALLED, "tool_calls": [{"function": {"name": 3}}]}],
            [{**CALLED, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            [{**CALLED, "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}],
            [{**CALLED, "tool_calls": [{"function": {"name": "f", "arguments": "[" * 9999}}]}],
            [USER] * 1025,
        ],
        ids=range(18),
    )
    def test_wrong_ones_are_refused(self, given: Any) -> None:
        with pytest.raises(ValidationFailed):
            parsed(messages=given)


class TestSampling:
    def test_chat_samples_unless_the_temperature_is_0(self) -> None:
        assert parsed().sampling == SamplingParams(do_sample=True)
        assert not parsed(temperature=0).sampling.do_sample
        assert not parsed(top_p=0).sampling.do_sample

    def test_every_parameter_arrives(self) -> None:
        found = parsed(
            temperature=0.5,
            top_p=1,
            top_k=-1,
            min_p=0.1,
            typical_p=0.9,
            repetition_penalty=1.1,
            frequency_penalty=-1,
            presence_penalty=2,
            seed=-1,
            logit_bias={"7": -100, "3": 1.5},
        ).sampling
        assert found == SamplingParams(
            do_sample=True,
            temperature=0.5,
            top_p=1.0,
            top_k=0,
            min_p=0.1,
            typical_p=0.9,
            repetition_penalty=1.1,
            frequency_penalty=-1,
            presence_penalty=2,
            seed=2**64 - 1,
            logit_bias=((3, 1.5), (7, -100.0)),
        )

    def test_list_of_biases_is_ignored(self) -> None:
        assert parsed(logit_bias=[1.0, 2.0]).sampling.logit_bias == ()

    @pytest.mark.parametrize(
        "body",
        [
            {"temperature": 3},
            {"temperature": "hot"},
            {"temperature": True},
            {"top_p": 1.1},
            {"top_k": -2},
            {"min_p": -1},
            {"typical_p": 0},
            {"repetition_penalty": 0},
            {"frequency_penalty": 3},
            {"seed": 2**80},
            {"logit_bias": 3},
            {"logit_bias": {"a": 1}},
            {"logit_bias": {"²": 1}},
            {"logit_bias": {"1": 101}},
            {"logit_bias": {"1": True}},
            {"logit_bias": {"1": "1"}},
            {"logit_bias": {str(number): 0 for number in range(1025)}},
        ],
        ids=range(17),
    )
    def test_what_is_out_of_range_is_refused(self, body: dict[str, Any]) -> None:
        with pytest.raises(ValidationFailed, match=next(iter(body))):
            parsed(**body)


class TestLength:
    def test_newer_name_wins(self) -> None:
        found = parsed(max_tokens=5, max_completion_tokens=6)
        assert (found.max_new_tokens, found.fit_to_context) == (6, False)

    def test_context_is_the_bound_if_none_is_named(self) -> None:
        found = parsed(max_tokens=None)
        assert (found.max_new_tokens, found.fit_to_context) == (100, True)

    @pytest.mark.parametrize("wanted", [0, -1, 2**31, 2**80, 1.5, "5", True, 101])
    def test_wrong_bounds_are_refused(self, wanted: Any) -> None:
        with pytest.raises(ValidationFailed, match="max_tokens"):
            parsed(max_tokens=wanted)

    def test_choices_are_bounded_and_count_each(self) -> None:
        assert parsed(n=2, max_tokens=7).num_new_tokens == 14
        for number in (0, 3, 10**6):
            with pytest.raises(GatehouseError, match=r"`n` must be >= 1 and <= 2. Given"):
                parsed(n=number)


class TestTools:
    def test_choice_is_automatic_unless_it_is_named(self) -> None:
        assert parsed(tools=[F]).tool_choice.mode is ToolMode.AUTO
        assert parsed(tools=[F], tool_choice="none").tool_choice.mode is ToolMode.NONE
        assert parsed(tools=[F], tool_choice="required").tool_choice.mode is ToolMode.REQUIRED
        assert not parsed(tools=[], tool_choice="auto").tool_choice.is_offered
        assert not parsed(tool_choice="auto").tool_choice.is_offered

    @pytest.mark.parametrize(
        "choice",
        [
            "f",
            {"type": "function", "function": {"name": "f"}},
            {"function": {"name": "f"}},
        ],
    )
    def test_name_may_stand_alone_or_in_objects(self, choice: Any) -> None:
        found = parsed(tools=[F], tool_choice=choice).tool_choice
        assert (found.mode, found.name, found.may_repeat) == (ToolMode.REQUIRED, "f", False)

    def test_unknown_name_has_tgis_sentence(self) -> None:
        with pytest.raises(ToolRefused) as refused:
            parsed(tools=[F], tool_choice="g")
        assert refused.value.message == "Tool error: Tool with name g not found"
        assert refused.value.error_type == "tool_error"

    def test_format_beside_tools_is_refused_where_tgi_does(self) -> None:
        body = {"messages": [USER], "tools": [F], "response_format": {"type": "json_object"}}
        with pytest.raises(ToolRefused) as refused:
            parse_chat(body, 100)
        assert refused.value.message == "Tool error: Grammar and tools are mutually exclusive"
        assert parse_chat(body, 100, tools_exclude_format=False).answer_format
        assert parse_chat({**body, "tool_choice": "none"}, 100).answer_format

    @pytest.mark.parametrize(
        "tools",
        [
            "f",
            ["f"],
            [{"type": "web_search"}],
            [{"type": "web_search", "function": F["function"]}],
            [{"function": {}}],
            [{"function": {"name": "a b"}}],
            [{"function": {"name": ""}}],
            [{"function": {"name": "a" * 65}}],
            [{"function": {"name": 'a"'}}],
            [{"function": {"name": "f", "description": 3}}],
            [{"function": {"name": "f", "parameters": "x"}}],
            [{"function": {"name": "f", "parameters": {"type": "string"}}}],
            [F, F],
            [{"function": {"name": f"f{number}"}} for number in range(129)],
        ],
        ids=range(14),
    )
    def test_wrong_tools_are_refused(self, tools: Any) -> None:
        with pytest.raises(ValidationFailed, match="`tools"):
            parsed(tools=tools)

    @pytest.mark.parametrize("choice", [3, [], {}, {"function": "f"}, {"type": "auto"}])
    def test_wrong_choices_are_refused(self, choice: Any) -> None:
        with pytest.raises(ValidationFailed, match="`tool_choice` must be"):
            parsed(tools=[F], tool_choice=choice)


class TestFormats:
    @pytest.mark.parametrize("given", [None, {"type": "text"}])
    def test_free_text_has_none(self, given: Any) -> None:
        assert parsed(response_format=given).answer_format is None

    @pytest.mark.parametrize(
        "given",
        [
            {"type": "json_object", "value": SCHEMA},
            {"type": "json", "value": SCHEMA},
            {"type": "json", "value": SCHEMA_TEXT},
            {"type": "json", "value": {"properties": SCHEMA["properties"]}},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "value": {"schema": SCHEMA}},
            {"type": "json_schema", "value": {"name": "a", "schema": SCHEMA}},
            {"type": "json_schema", "value": SCHEMA},
        ],
        ids=range(8),
    )
    def test_schema_is_found_in_every_place(self, given: Any) -> None:
        wanted = Grammar(GrammarKind.JSON_SCHEMA, SCHEMA_TEXT)
        assert parsed(response_format=given).answer_format == wanted

    def test_object_without_a_schema_may_be_any(self) -> None:
        for given in (
            {"type": "json_object"},
            {"type": "json_object", "value": None},
            {"type": "json_schema", "json_schema": {"name": "a"}},
        ):
            found = parsed(response_format=given).answer_format
            assert found == Grammar(GrammarKind.JSON_OBJECT)

    def test_regular_expression_is_passed_on(self) -> None:
        found = parsed(response_format={"type": "regex", "value": "a+"}).answer_format
        assert found == Grammar(GrammarKind.REGEX, "a+")

    @pytest.mark.parametrize(
        "given",
        [
            "json",
            {},
            {"type": "xml"},
            {"type": ["json"]},
            {"type": "regex"},
            {"type": "regex", "value": 3},
            {"type": "json", "value": "{"},
            {"type": "json", "value": [1]},
            {"type": "json_schema"},
            {"type": "json_schema", "json_schema": 3},
            {"type": "json_schema", "json_schema": {"schema": 3}},
        ],
        ids=range(11),
    )
    def test_wrong_forms_are_refused(self, given: Any) -> None:
        with pytest.raises(ValidationFailed, match="`response_format"):
            parsed(response_format=given)


def test_deep_json_is_refused_wherever_it_goes_on() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = {"a": deep}
    called = {"function": {"name": "f", "arguments": deep}}
    for body in (
        {"messages": [USER, {**CALLED, "tool_calls": [called]}]},
        {"tools": [{"function": {"name": "f", "parameters": {"properties": deep}}}]},
        {"response_format": {"type": "json", "value": deep}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": deep}}},
    ):
        with pytest.raises(ValidationFailed, match="is nested deeper than 64"):
            parsed(**body)


def test_only_known_switches_reach_the_template() -> None:
    switches = {"enable_thinking": False, "documents": [1], "thinking": None}
    assert parsed(chat_template_kwargs=switches).template_arguments == (("enable_thinking", False),)
    with pytest.raises(ValidationFailed, match="`enable_thinking` must be a boolean"):
        parsed(chat_template_kwargs={"enable_thinking": "no"})


def test_fields_without_meaning_here_are_ignored() -> None:
    others = {
        "user": "u",
        "metadata": {},
        "store": True,
        "service_tier": "auto",
        "reasoning_effort": "low",
        "prompt_cache_key": "k",
        "anything": [1],
    }
    assert parsed(**others) == parsed()
