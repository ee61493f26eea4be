"""Conversations to text, by the chat template of a repository: a program that nobody has checked.

transformers runs it in an immutable sandbox; time is the watchdog's affair.
"""

import inspect
import re
from typing import Any

import jinja2

from gatehouse.engines.base import ChatPrompt, RefusalKind, RequestRefused
from gatehouse.engines.pipelines.plain_text import PlainText

_LONGEST_REASON = 300
# What a message must not tell: where an object lies in memory, where files lie on the disk.
_OBJECT = re.compile(r"<.*? at 0x[0-9a-fA-F]+>")
_PATH = re.compile(r"(?<![\w<])/(?:[\w.+-]+/)+[\w.+-]*")


class ChatTemplate:
    """The template of one tokenizer, which may have none.

    Args:
        tokenizer: Of `transformers`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.source = _source(tokenizer.chat_template)
        self.plain = PlainText(tokenizer, self.source)
        self._own_arguments = frozenset(inspect.signature(tokenizer.apply_chat_template).parameters)

    def render(self, prompt: ChatPrompt) -> str:
        """The conversation as the model reads it, for `plain.encode`.

        Raises:
            RequestRefused: There is no template, or it fails.
        """
        if not self.source:
            raise _template_error("template not found")
        for name in prompt.template_arguments:
            if name in self._own_arguments or not name.isidentifier():
                raise _template_error(f"`{name}` is no argument of a template")
        return self.plain.break_marked(self._apply(prompt))

    def _apply(self, prompt: ChatPrompt) -> str:
        messages = [
            {
                key: value if key == "role" else self.plain.mark(value)
                for key, value in message.items()
            }
            for message in prompt.messages
        ]
        tools = [self.plain.mark(tool) for tool in prompt.tools] if prompt.tools else None
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=tools,
                    tokenize=False,
                    add_generation_prompt=not prompt.continue_final_message,
                    continue_final_message=prompt.continue_final_message,
                    **prompt.template_arguments,
                )
            )
        except jinja2.TemplateError as error:
            raise _template_error(_harmless(error.message)) from error
        # A template is a program from the repository: it can raise whatever Python raises. The
        # messages that it trips over come from the caller.
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise _template_error(f"the template failed with {type(error).__name__}") from error


def _source(template: Any) -> str:
    """Its text; of several by name, all of them."""
    if isinstance(template, dict):
        return "\n".join(map(str, template.values()))
    return template or ""


def _harmless(message: str | None) -> str:
    """The first line of what the template or Jinja says."""
    lines = (message or "").strip().splitlines() or ["unknown error"]
    line = _PATH.sub("a file", _OBJECT.sub("an object", lines[0]))
    return line[:_LONGEST_REASON]


def _template_error(why: str) -> RequestRefused:
    return RequestRefused(RefusalKind.TEMPLATE, f"Template error: {why}")
