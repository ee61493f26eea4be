"""Summarization and translation: bodies to jobs of text generation, and answers to their shapes.

Which words stand in front of a text, and how long an answer is by itself, the model knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gatehouse.engines.base import TaskPrompt
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.json_fields import Fields
from gatehouse.inference.parameters import RouteDefaults, TextGenerationJob, parse_text_generation
from gatehouse.inference.tasks import ANSWER_KEYS

# Where clients of different ages put what is said to `generate`.
_NESTED = ("generate_parameters", "generation_parameters", "generate_kwargs")
_CUT = ("longest_first", "only_first", True)
_NOT_CUT = (None, "do_not_truncate", False)
# What decoding with `clean_up_tokenization_spaces` does in `transformers`.
_SPACES = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True, slots=True)
class TextTaskJob:
    """A validated body.

    Attributes:
        task: The task that is asked for.
        job: Its texts, and how answers are generated.
        cleans_up: Take the spaces out that stand before punctuation.
    """

    task: str
    job: TextGenerationJob
    cleans_up: bool

    def shaped(self, answers: list[Any]) -> list[dict[str, str]]:
        """Answers of text generation as those of the task, in one list for all texts."""
        flat = [each for group in answers for each in group] if self.job.is_batch else answers
        return [{ANSWER_KEYS[self.task]: self._cleaned(each["generated_text"])} for each in flat]

    def _cleaned(self, text: str) -> str:
        if self.cleans_up:
            for spaced, close in _SPACES:
                text = text.replace(spaced, close)
        return text


def parse_text_task(
    task: str, body: Mapping[str, Any], max_new_tokens_cap: int, priority: int = 0
) -> TextTaskJob:
    """Read `{"inputs": text or texts, "parameters": {...}}`.

    Args:
        task: Of `ANSWER_KEYS`.
        body: The JSON object that was sent.
        max_new_tokens_cap: What the caller's plan allows.
        priority: Of the requests, see `GenerationRequest`.

    Raises:
        ValidationFailed: The first rule that is broken.
    """
    parameters = _parameters(body)
    fields = Fields(parameters)
    # A search along several beams has no first token before it has its last.
    if (fields.integer("num_beams", 1) or 1) > 1:
        raise ValidationFailed("`num_beams` must be 1: answers are made token by token")
    job = parse_text_generation(
        {"inputs": body.get("inputs"), "parameters": parameters},
        RouteDefaults(max_new_tokens_cap, return_full_text=False, whole_answer=True),
        max_new_tokens_cap,
        is_stream=False,
        priority=priority,
    )
    prompt = TaskPrompt(
        job.prompts[0],
        task,
        source_language=_text(fields, "src_lang"),
        target_language=_text(fields, "tgt_lang"),
        cut_to_fit=_is_cut(fields),
    )
    request = msgspec.structs.replace(job.request, prompt=prompt)
    job = replace(job, request=request, return_full_text=False, with_details=False)
    return TextTaskJob(task, job, fields.boolean("clean_up_tokenization_spaces"))


def wants_text_generation(body: Mapping[str, Any]) -> bool:
    """Whether a body is one of text generation, whatever the model does: its clients say more."""
    parameters = body.get("parameters")
    asks_details = isinstance(parameters, Mapping) and parameters.get("details") is True
    return "stream" in body or asks_details


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters in one object; those that stand alone are stronger than nested ones."""
    given = body.get("parameters")
    if given is not None and not isinstance(given, Mapping):
        raise ValidationFailed("`parameters` must be an object")
    found: dict[str, Any] = {}
    for name in _NESTED:
        nested = (given or {}).get(name)
        if nested is not None and not isinstance(nested, Mapping):
            raise ValidationFailed(f"`{name}` must be an object")
        found |= nested or {}
    return found | {key: value for key, value in (given or {}).items() if value is not None}


def _text(fields: Fields, name: str) -> str | None:
    value = fields.raw(name)
    if value is not None and not isinstance(value, str):
        raise ValidationFailed(f"`{name}` must be a string")
    return value


def _is_cut(fields: Fields) -> bool:
    value = fields.raw("truncation")
    if value in _CUT and isinstance(value, str | bool):
        return True
    if value in _NOT_CUT and isinstance(value, str | bool | None):
        return False
    raise ValidationFailed(
        "`truncation` must be `do_not_truncate`, `longest_first` or `only_first`"
    )
