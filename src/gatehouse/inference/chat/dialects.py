"""How models write the calls of tools."""

from dataclasses import dataclass

from gatehouse.engines.base import ToolMarkup


@dataclass(frozen=True, slots=True)
class Dialect:
    """A call is a JSON object with `name` and its arguments, somewhere in the answer.

    Attributes:
        opening: Text before the call; without one the whole answer is the call.
        closing: Text after it.
        before, after: Layout between those and the call.
        is_list: The calls stand in a JSON list.
        arguments_key: Where the arguments are.
        takes_several: Whether one answer may have more than one call.
    """

    opening: str = ""
    closing: str = ""
    before: str = ""
    after: str = ""
    is_list: bool = False
    arguments_key: str = "arguments"
    takes_several: bool = True

    @property
    def markers(self) -> tuple[str, ...]:
        return tuple(marker for marker in (self.opening, self.closing) if marker)


# For templates that know no tools: what `prompts` asks such models for.
PLAIN = Dialect()
_DIALECTS = {
    ToolMarkup.HERMES: Dialect("<tool_call>", "</tool_call>", "\n", "\n"),
    ToolMarkup.LLAMA: Dialect(arguments_key="parameters", takes_several=False),
    ToolMarkup.MISTRAL: Dialect("[TOOL_CALLS]", before=" ", is_list=True),
}


def dialect_of(markup: ToolMarkup | None) -> Dialect:
    return PLAIN if markup is None else _DIALECTS[markup]
