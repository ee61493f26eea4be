"""Tokens as the events of a stream show them."""

import pytest

from gatehouse.engines.base import GeneratedToken, ScoredToken
from gatehouse.inference.token_shapes import generated_token

WORD = ScoredToken(7, " fox", -0.5, special=False)
END = ScoredToken(2, "</s>", -0.25, special=True)


@pytest.mark.parametrize(
    ("token", "piece", "shown", "is_special"),
    [
        (WORD, " fox", " fox", False),
        (WORD, "", "", False),
        (END, "", "</s>", True),
        (END, "</s>", "</s>", True),
        # What might have become a stop text and did not is released by the end.
        (END, " and", " and", False),
    ],
)
def test_texts_that_are_not_special_join_to_the_continuation(
    token: ScoredToken, piece: str, shown: str, is_special: bool
) -> None:
    event = generated_token(GeneratedToken(token, piece))
    assert event == {
        "id": token.id,
        "text": shown,
        "logprob": token.logprob,
        "special": is_special,
    }
