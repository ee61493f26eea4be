"""Bodies of chat completions to jobs: validated, and independent of the model that will run them.

The engine's request is made from a job when the model's own way of writing is known, in `plans`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatehouse.core.errors import Invalid
from gatehouse.engines.base import Grammar, SamplingParams
from gatehouse.inference.chat.formats import read_response_format
from gatehouse.inference.chat.messages import Message, read_messages
from gatehouse.inference.chat.sampling import read_sampling
from gatehouse.inference.chat.tools import NO_TOOLS, ToolChoice, read_tool_choice
from gatehouse.inference.errors import ToolRefused, ValidationFailed
from gatehouse.inference.json_fields import Fields
from gatehouse.inference.parameters import MAX_BEST_OF, read_stop

MAX_TOP_LOGPROBS = 20
# Switches of chat templates that a caller may set; any other could be a variable of its own.
_TEMPLATE_SWITCHES = ("enable_thinking", "thinking")


class TooManyChoices(Invalid):
    def __init__(self, given: int) -> None:
        super().__init__(f"`n` must be >= 1 and <= {MAX_BEST_OF}. Given: {given}")


@dataclass(frozen=True, slots=True)
class ChatJob:
    """A validated chat body.

    Attributes:
        fit_to_context: The caller named no bound: what the prompt leaves is enough.
        num_choices: How many answers.
        answer_format: What the answer must match, if it is not a call; None leaves it free.
        template_arguments: See `ChatPrompt`.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams
    max_new_tokens: int
    fit_to_context: bool = False
    stop: tuple[str, ...] = ()
    num_choices: int = 1
    with_logprobs: bool = False
    num_top_logprobs: int = 0
    tool_choice: ToolChoice = NO_TOOLS
    answer_format: Grammar | None = None
    template_arguments: tuple[tuple[str, bool], ...] = ()
    priority: int = 0
    is_stream: bool = False
    include_usage: bool = False

    @property
    def num_new_tokens(self) -> int:
        """At most so many tokens are generated for all choices."""
        return self.max_new_tokens * self.num_choices

    @property
    def continues_last_message(self) -> bool:
        """Whether the last message is the beginning of the answer."""
        last = self.messages[-1]
        return last["role"] == "assistant" and "tool_calls" not in last


def parse_chat(
    body: Mapping[str, Any],
    max_new_tokens_cap: int,
    priority: int = 0,
    *,
    tools_exclude_format: bool = True,
) -> ChatJob:
    """Read a chat completion's body; unknown keys are ignored, null means absent.

    Args:
        body: The JSON object that was sent.
        max_new_tokens_cap: What the caller's plan allows.
        priority: Of the requests, see `GenerationRequest`.
        tools_exclude_format: Refuse `response_format` beside tools, as TGI does.

    Raises:
        ValidationFailed: A field is wrong.
        TooManyChoices: `n` is.
        ToolRefused: The tools are.
    """
    fields = Fields(body)
    messages = read_messages(fields.raw("messages"))
    wanted = fields.integer("max_completion_tokens", 1) or fields.integer("max_tokens", 1)
    if wanted is not None and wanted > max_new_tokens_cap:
        raise ValidationFailed(
            f"`max_tokens` must be <= {max_new_tokens_cap} on your plan. Given: {wanted}"
        )
    tool_choice = read_tool_choice(body)
    answer_format = read_response_format(fields.raw("response_format"))
    if tools_exclude_format and tool_choice.is_offered and answer_format is not None:
        raise ToolRefused("Grammar and tools are mutually exclusive")
    with_logprobs = fields.boolean("logprobs")
    num_top_logprobs = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS) or 0
    stream_options = fields.raw("stream_options")
    return ChatJob(
        messages=messages,
        sampling=read_sampling(fields),
        max_new_tokens=wanted or max_new_tokens_cap,
        fit_to_context=wanted is None,
        stop=read_stop(fields),
        num_choices=_num_choices(fields),
        with_logprobs=with_logprobs,
        num_top_logprobs=num_top_logprobs if with_logprobs else 0,
        tool_choice=tool_choice,
        answer_format=answer_format,
        template_arguments=_template_arguments(fields.raw("chat_template_kwargs")),
        priority=priority,
        is_stream=fields.boolean("stream"),
        include_usage=isinstance(stream_options, Mapping)
        and stream_options.get("include_usage") is True,
    )


def _num_choices(fields: Fields) -> int:
    given = fields.integer("n")
    if given is None:
        return 1
    if not 1 <= given <= MAX_BEST_OF:
        raise TooManyChoices(given)
    return given


def _template_arguments(value: Any) -> tuple[tuple[str, bool], ...]:
    if not isinstance(value, Mapping):
        return ()
    given = Fields(value)
    names = [name for name in _TEMPLATE_SWITCHES if given.raw(name) is not None]
    return tuple((name, given.boolean(name)) for name in names)
