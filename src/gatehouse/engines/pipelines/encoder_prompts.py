"""Prompts of encoder-decoder models: texts, tasks by name, languages by name."""

from typing import Any

from gatehouse.engines.base import InfillPrompt, Prompt, TaskPrompt, TextPrompt
from gatehouse.engines.pipelines.task_settings import TaskSettings, task_settings
from gatehouse.engines.text.prompts import (
    MAX_CHARACTERS_PER_TOKEN,
    PromptReader,
    refuse_invalid,
)

_TRANSLATION = "translation"
_SHOWN_LANGUAGES = 12


class EncoderPromptReader(PromptReader):
    """Reads what goes into an encoder.

    Args:
        tokenizer: Of `transformers`.
        config: The model's.
        encoder_length: Tokens that the encoder reads at most, special ones among them.
    """

    def __init__(self, tokenizer: Any, config: Any, encoder_length: int) -> None:
        # The other reader keeps one token free for the answer.
        super().__init__(tokenizer, encoder_length + 1)
        self._encoder_length = encoder_length
        self._tasks = task_settings(config)
        self._languages = _languages(tokenizer)

    def encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, InfillPrompt):
            raise refuse_invalid("the model has no tokens to fill in the middle with")
        return super().encode(prompt)

    def rules(self, prompt: Prompt) -> dict[str, int]:
        """What the task, and the language of its answer, add to the rules of generating."""
        if not isinstance(prompt, TaskPrompt):
            return {}
        rules = dict(self._settings(prompt).rules)
        if prompt.target_language in self._languages:
            rules["forced_bos_token_id"] = self._languages[prompt.target_language]
        return rules

    def _encode_text(self, prompt: TextPrompt) -> list[int]:
        text = prompt.text
        if prompt.truncate is not None:
            text = text[-prompt.truncate * MAX_CHARACTERS_PER_TOKEN :]
        ids, special = self._read(text)
        return ids if prompt.truncate is None else _cut(ids, special, prompt.truncate, at_end=False)

    def _encode_task(self, prompt: TaskPrompt) -> list[int]:
        self._check_languages(prompt)
        text = self._settings(prompt).prefix + prompt.text
        if prompt.cut_to_fit:
            text = text[: self._encoder_length * MAX_CHARACTERS_PER_TOKEN]
        ids, special = self._read(text)
        if prompt.source_language in self._languages:
            # These tokenizers mark every text with the language that their configuration names.
            marked = self._languages.get(str(self._tokenizer.src_lang))
            ids = [
                self._languages[prompt.source_language]
                if is_special and token_id == marked
                else token_id
                for token_id, is_special in zip(ids, special, strict=True)
            ]
        return _cut(ids, special, self._encoder_length, at_end=True) if prompt.cut_to_fit else ids

    def _read(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, and for each whether the tokenizer put it around the text."""
        encoded = self._tokenizer(self._fitting(text), return_special_tokens_mask=True)
        return list(encoded.input_ids), list(encoded.special_tokens_mask)

    def _settings(self, prompt: TaskPrompt) -> TaskSettings:
        return self._tasks.get(_task_name(prompt)) or self._tasks.get(prompt.task) or TaskSettings()

    def _check_languages(self, prompt: TaskPrompt) -> None:
        pair = (prompt.source_language, prompt.target_language)
        if pair == (None, None) or _task_name(prompt) in self._tasks:
            return
        if None in pair:
            raise refuse_invalid("`src_lang` and `tgt_lang` must be given together")
        for name, language in zip(("src_lang", "tgt_lang"), pair, strict=True):
            if language not in self._languages:
                raise refuse_invalid(self._unknown(name, str(language)))

    def _unknown(self, name: str, language: str) -> str:
        if not self._languages:
            pairs = [task for task in self._tasks if task.startswith(f"{_TRANSLATION}_")]
            known = ", ".join(f"`{pair}`" for pair in pairs[:_SHOWN_LANGUAGES])
            return (
                f"the model translates {known}"
                if pairs
                else "the model does not say which languages it knows: leave them out"
            )
        known = ", ".join(f"`{code}`" for code in list(self._languages)[:_SHOWN_LANGUAGES])
        more = ", …" if len(self._languages) > _SHOWN_LANGUAGES else ""
        return f"`{name}` must be one of {known}{more}. Given: {language}"


def _task_name(prompt: TaskPrompt) -> str:
    """As `task_specific_params` calls it."""
    if prompt.task == _TRANSLATION and prompt.source_language and prompt.target_language:
        return f"{_TRANSLATION}_{prompt.source_language}_to_{prompt.target_language}"
    return prompt.task


def _languages(tokenizer: Any) -> dict[str, int]:
    """The token of each language that a tokenizer of several marks its texts with."""
    if not isinstance(getattr(tokenizer, "src_lang", None), str):
        return {}
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if isinstance(codes, dict):
        return {str(code): int(token_id) for code, token_id in codes.items()}
    # NLLB's codes, such as `eng_Latn`, are special tokens themselves.
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {str(name): int(token_id) for name, token_id in special if not str(name).startswith("<")}


def _cut(ids: list[int], special: list[int], length: int, *, at_end: bool) -> list[int]:
    """So many tokens of a text at most, between the special ones that stand around it."""
    excess = len(ids) - length
    if excess <= 0:
        return ids
    inner = [place for place, is_special in enumerate(special) if not is_special]
    if excess > len(inner):
        raise refuse_invalid(f"`truncate` leaves nothing of the text. Given: {length}")
    dropped = set(inner[-excess:] if at_end else inner[:excess])
    return [token_id for place, token_id in enumerate(ids) if place not in dropped]
