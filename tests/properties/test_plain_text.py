"""Names in texts are found, marked and taken out again without a trace."""

import re

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from gatehouse.engines.text.plain_text import PlainText, _any_of

NAMES = ["<s>", "<s", "s>s", "<|a|>", "<|ab|>", "▁<P>"]
PIECES = st.one_of(
    st.sampled_from(NAMES), st.sampled_from(list("<s>|ab \ufdd0\ufdd1\ufdd2")), st.text(max_size=2)
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
LETTERS = st.text(st.sampled_from("ab<|.é"), max_size=4)


def make_plain() -> PlainText:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    tokenizer.add_tokens([AddedToken(name, special=True) for name in NAMES], special_tokens=True)
    return PlainText(tokenizer)


PLAIN = make_plain()


@given(text=TEXTS)
def test_marks_leave_no_trace(text: str) -> None:
    broken = PLAIN.break_marked(PLAIN.mark(text))
    assert PLAIN.shown(broken) == re.sub("[\ufdd0-\ufdd2]", "", text)
    assert not any(name in broken for name in NAMES)


@given(before=LETTERS, name=st.sampled_from(["<|a|>", "<|ab|>"]), after=LETTERS)
def test_templates_see_names_whole(before: str, name: str, after: str) -> None:
    marked = PLAIN.mark({"key": [f"{before} {name} {after}", 1, None]})["key"]
    assert name in marked[0]
    assert marked[1:] == [1, None]


@given(names=st.sets(LETTERS.filter(bool), max_size=8), text=LETTERS)
def test_pattern_finds_the_longest_name(names: set[str], text: str) -> None:
    match = re.match(_any_of(names), text)
    expected = max((name for name in names if text.startswith(name)), key=len, default=None)
    assert (match[0] if match else None) == expected
