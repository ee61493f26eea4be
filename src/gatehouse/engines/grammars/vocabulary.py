"""The tokens of a Hugging Face tokenizer, as llguidance sees them: as bytes."""

from typing import Any

from llguidance import LLTokenizer
from llguidance.hf import from_tokenizer

from gatehouse.engines.grammars.texts import GrammarInvalid


def grammar_vocabulary(tokenizer: Any, num_logits: int, eos_token_ids: list[int]) -> LLTokenizer:
    """The vocabulary, padded to what the model gives logits for; padding is never allowed.

    Raises:
        GrammarInvalid: This kind of tokenizer does not tell the bytes of its tokens.
    """
    try:
        return from_tokenizer(
            tokenizer,
            n_vocab=max(num_logits, len(tokenizer)),
            eos_token=eos_token_ids or None,
        )
    except ValueError as error:
        raise GrammarInvalid("the model's tokenizer cannot be constrained") from error
