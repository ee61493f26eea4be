"""What chat templates tell: small ones in the manner of the families people run."""

from typing import Any

import pytest
from tiny_models import CHAT_TEMPLATE, make_tokenizer
from tokenizers import AddedToken

from gatehouse.engines.base import ChatTraits, ModelNotLoadable, ToolMarkup
from gatehouse.engines.text import chat_template, chat_traits
from gatehouse.engines.text.chat_template import ChatTemplate

HERMES = (
    "{% if tools %}# Tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    'Return calls as <tool_call>{"name": …, "arguments": …}</tool_call>\n{% endif %}'
    "{% for message in messages %}<s>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
LLAMA = (
    "{% for message in messages %}<s>{{ message.role }}\n"
    "{% if message.tool_calls %}{% if message.tool_calls | length != 1 %}"
    "{{ raise_exception('one call at a time') }}{% endif %}"
    '{"name": "{{ message.tool_calls[0].function.name }}", '
    '"parameters": {{ message.tool_calls[0].function.arguments | tojson }}}'
    '{% elif loop.first and tools %}Respond in the format {"name": function name, '
    '"parameters": dictionary}. {% for tool in tools %}{{ tool | tojson }}{% endfor %}'
    "{{ message.content }}{% else %}{{ message.content }}{% endif %}</s>{% endfor %}"
)
MISTRAL = (
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{% if tools and loop.last %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST]{{ message.content }}[/INST]{% elif message.tool_calls %}"
    "{% for call in message.tool_calls %}{% if call.id | length != 9 %}"
    "{{ raise_exception('ids have nine characters') }}{% endif %}{% endfor %}"
    "[TOOL_CALLS]{{ message.tool_calls | map(attribute='function') | list | tojson }}"
    "{% else %}{{ message.content }}{% endif %}{% endfor %}"
)
ODD = "{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[-1].content }}"
THINKING = HERMES.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}") + (
    "{# answers #}{% if '</think>' in messages[-1].content %}{% endif %}"
)
SWITCHED = HERMES.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}",
)


def traits(template: str | None, added: tuple[str, ...] = ()) -> ChatTraits | None:
    tokenizer: Any = make_tokenizer(adds_bos=True)
    tokenizer.add_tokens([AddedToken(name, special=False) for name in added])
    tokenizer.chat_template = template
    return chat_traits.chat_traits(tokenizer, ChatTemplate(tokenizer))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, None),
        (CHAT_TEMPLATE, ChatTraits()),
        (HERMES, ChatTraits(ToolMarkup.HERMES)),
        (LLAMA, ChatTraits(ToolMarkup.LLAMA)),
        (MISTRAL, ChatTraits(ToolMarkup.MISTRAL)),
        (ODD, ChatTraits()),
        (THINKING, ChatTraits(ToolMarkup.HERMES, "<think>", "</think>", opens_reasoning=True)),
        (SWITCHED, ChatTraits(ToolMarkup.HERMES, "<think>", "</think>", opens_reasoning=False)),
        ("{{ raise_exception('never') }}", ChatTraits()),
        ("{% if %}", ChatTraits()),
        ("{{ 1 / 0 }} <tool_call>", ChatTraits()),
    ],
    ids=["none", "plain", "hermes", "llama", "mistral", "odd", "opens", "switch", "a", "b", "c"],
)
def test_traits_are_found(template: str | None, expected: ChatTraits | None) -> None:
    assert traits(template) == expected


def test_marks_that_are_tokens_count_too() -> None:
    assert traits(CHAT_TEMPLATE, ("[THINK]", "[/THINK]")) == ChatTraits(None, "[THINK]", "[/THINK]")


def test_template_without_an_end_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_RENDER_SECONDS", 0.1)
    endless = "{% for a in range(30000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}"
    with pytest.raises(ModelNotLoadable, match="does not come to an end"):
        traits(endless)
