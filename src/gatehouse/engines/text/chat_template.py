"""Conversations to text, by the chat template of a repository: a program that nobody has checked.

transformers runs it in an immutable sandbox, and its processor time is limited.
"""

import inspect
from typing import Any

import jinja2

from gatehouse.engines.base import ChatPrompt, RefusalKind, RequestRefused
from gatehouse.engines.processor_limit import ProcessorLimit, ProcessorTimeExceeded
from gatehouse.engines.text.harmless import harmless_reason, without_objects
from gatehouse.engines.text.plain_text import PlainText

# Templates of real models take milliseconds.
_RENDER_SECONDS = 5.0


class TemplateEndless(RequestRefused):
    """The template does not come to an end."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            RefusalKind.TEMPLATE,
            f"Template error: the template did not come to an end within {seconds:g} seconds",
        )


class ChatTemplate:
    """The template of one tokenizer, which may have none.

    Args:
        tokenizer: Of `transformers`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.source = _source(tokenizer.chat_template)
        self.plain = PlainText(tokenizer, self.source)
        self._limit = ProcessorLimit(_RENDER_SECONDS)
        self._own_arguments = frozenset(inspect.signature(tokenizer.apply_chat_template).parameters)

    def render(self, prompt: ChatPrompt) -> str:
        """The conversation as the model reads it, for `plain.encode`.

        Raises:
            TemplateEndless: It takes too long.
            RequestRefused: There is no template, or it fails.
        """
        if not self.source:
            raise _template_error("template not found")
        for name in prompt.template_arguments:
            if name in self._own_arguments or not name.isidentifier():
                raise _template_error(f"`{name}` is no argument of a template")
        return self.plain.break_marked(self._safely_applied(prompt))

    def _safely_applied(self, prompt: ChatPrompt) -> str:
        messages = [
            {
                key: value if key == "role" else self.plain.mark(value)
                for key, value in message.items()
            }
            for message in prompt.messages
        ]
        tools = [self.plain.mark(tool) for tool in prompt.tools] if prompt.tools else None
        try:
            return self._limit.run(lambda: self._applied(prompt, messages, tools))
        except ProcessorTimeExceeded:
            raise TemplateEndless(self._limit.seconds) from None
        except jinja2.TemplateError as error:
            raise _template_error(harmless_reason(str(error.message))) from error
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

    def _applied(
        self, prompt: ChatPrompt, messages: list[dict[str, Any]], tools: list[Any] | None
    ) -> str:
        text = str(
            self._tokenizer.apply_chat_template(
                messages,
                tools=tools,
                tokenize=False,
                add_generation_prompt=not prompt.continue_final_message,
                continue_final_message=prompt.continue_final_message,
                **prompt.template_arguments,
            )
        )
        return without_objects(text, (messages, tools, self.source))


def _source(template: Any) -> str:
    """Its text; of several by name, all of them."""
    if isinstance(template, dict):
        return "\n".join(map(str, template.values()))
    return template or ""


def _template_error(why: str) -> RequestRefused:
    return RequestRefused(RefusalKind.TEMPLATE, f"Template error: {why}")
