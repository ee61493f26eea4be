"""What an encoder-decoder model's own files say of its tasks: texts in front, lengths, rules.

`task_specific_params` in `config.json`, as T5 has them. Trusts nothing it reads.
"""

from dataclasses import dataclass, field
from typing import Any

_LARGEST = 2**31 - 1
_LONGEST_PREFIX = 1000
_MAX_TASKS = 1000
# What `generate` takes of them for one sequence; beams are not searched here.
_RULES = ("min_length", "no_repeat_ngram_size")


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Of one task.

    Attributes:
        prefix: What stands before the text.
        max_length: Of the decoder's tokens, its start token too; None if it is not said.
        rules: By the names that `generate` gives them.
    """

    prefix: str = ""
    max_length: int | None = None
    rules: dict[str, int] = field(default_factory=dict)


def task_settings(config: Any) -> dict[str, TaskSettings]:
    """By name, such as `summarization` and `translation_en_to_de`; empty for most models."""
    given = getattr(config, "task_specific_params", None)
    if not isinstance(given, dict):
        return {}
    return {
        str(name): _settings(values)
        for name, values in list(given.items())[:_MAX_TASKS]
        if isinstance(values, dict)
    }


def _settings(values: dict[str, Any]) -> TaskSettings:
    prefix = values.get("prefix")
    rules = {name: value for name in _RULES if (value := _count(values.get(name)))}
    is_text = isinstance(prefix, str) and len(prefix) <= _LONGEST_PREFIX
    return TaskSettings(str(prefix) if is_text else "", _count(values.get("max_length")), rules)


def _count(value: Any) -> int | None:
    is_sound = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST
    return int(value) if is_sound else None
