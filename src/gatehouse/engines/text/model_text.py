"""What an engine of tokens needs to speak of text: prompts read, tokens shown, itself described."""

from dataclasses import dataclass
from typing import Any

from gatehouse.engines.base import ModelDescription
from gatehouse.engines.text.chat_traits import chat_traits
from gatehouse.engines.text.prompts import PromptReader
from gatehouse.engines.text.requests import RequestReader
from gatehouse.engines.text.token_texts import TokenTexts


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What `ModelDescription` says and only whoever loaded the model knows."""

    engine: str
    architecture: str
    context_length: int
    dtype: str
    num_parameters: int
    device: str = "cpu"


class ModelText:
    """The text side of a loaded model.

    Args:
        tokenizer: Of `transformers`; shared by all threads.
        facts: Of the model.
        vocabulary_size: Logits of a row.
        eos_token_ids: Tokens that end a sequence.

    Attributes:
        texts: Of tokens.
        prompts: Reads them.
        reader: Reads requests.
    """

    def __init__(
        self,
        tokenizer: Any,
        facts: ModelFacts,
        vocabulary_size: int,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        self._facts = facts
        self._eos_token_ids = eos_token_ids
        self._has_chat_template = bool(tokenizer.chat_template)
        self.texts = TokenTexts(tokenizer)
        self.prompts = PromptReader(tokenizer, facts.context_length)
        self.reader = RequestReader(
            tokenizer, self.prompts, facts.context_length, vocabulary_size, eos_token_ids
        )
        # Sets the fast tokenizer's truncation once; later calls then only read it, from any thread.
        tokenizer("")
        self._chat_traits = chat_traits(tokenizer, self.prompts.chat)

    def describe(self) -> ModelDescription:
        facts = self._facts
        return ModelDescription(
            engine=facts.engine,
            architecture=facts.architecture,
            context_length=facts.context_length,
            has_chat_template=self._has_chat_template,
            eos_token_ids=self._eos_token_ids,
            dtype=facts.dtype,
            device=facts.device,
            num_parameters=facts.num_parameters,
            chat=self._chat_traits,
            can_infill=self.prompts.infilling.is_possible,
        )
