"""Texts of tokens are those that the tokenizer gives, whatever way they are asked for."""

import random
from typing import Any

import pytest
from tiny_models import save_tiny_llama
from transformers import AutoTokenizer

from gatehouse.engines.text.token_texts import TokenDecoder, TokenTexts


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(save_tiny_llama(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("skip", [True, False])
def test_any_tokens_are_decoded_as_the_tokenizer_does(tokenizer: Any, *, skip: bool) -> None:
    decode = TokenDecoder(tokenizer, skip_special_tokens=skip)
    chance = random.Random(0)
    runs = [[chance.randrange(len(tokenizer)) for _ in range(size)] for size in range(9)]
    runs += [[token_id] for token_id in (*tokenizer.all_special_ids, len(tokenizer) + 5)]
    for ids in runs * 2:
        expected = tokenizer.decode(
            ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )
        assert decode(ids) == expected


def test_tokenizers_with_a_way_of_their_own_are_asked(tokenizer: Any) -> None:
    class Shouting(type(tokenizer)):  # type: ignore[misc]
        def _decode(self, *values: Any, **options: Any) -> str:
            return str(super()._decode(*values, **options)).upper()

    shouting = Shouting(tokenizer_object=tokenizer.backend_tokenizer)
    ids = tokenizer("the cat").input_ids
    assert TokenDecoder(shouting, skip_special_tokens=True)(ids) == "THE CAT"


def test_special_tokens_are_shown_by_name(tokenizer: Any) -> None:
    token = TokenTexts(tokenizer).scored(tokenizer.eos_token_id, -1.0)
    assert (token.text, token.special, token.logprob) == (tokenizer.eos_token, True, -1.0)
