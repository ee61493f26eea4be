"""Any text at all is a card or an error, within bounds."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from gatehouse.core.errors import Invalid
from gatehouse.core.ids import RepoKind
from gatehouse.repos.cards import CardProblem, parse_card, read_card, validate_card
from gatehouse.repos.front_matter import MAX_DEPTH, JsonValue, read_front_matter

YAML_PIECES = (
    st.sampled_from("-[]{}&*!?:>|'\"\n# \t\\é~%\x85\u2028\ufeff")
    | st.sampled_from(
        ["a: ", "b:\n", "- ", "&x ", "*x", "!!str ", "!t ", "%YAML 1.1\n", "---\n", "...\n"]
    )
    | st.sampled_from(
        ["<<: ", "null", "1e999", "extra_gated_fields:\n", "type: select", "options: "]
    )
)
YAML_LIKE = st.lists(YAML_PIECES | st.text(max_size=3), max_size=40).map("".join)
ANY_TEXT = st.text(st.characters(), max_size=200)

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc<_", min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def depth(value: JsonValue) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(inner, list) else 0


@settings(max_examples=400, deadline=2000)
@given(front_matter=YAML_LIKE | ANY_TEXT, body=ANY_TEXT)
def test_any_text_is_a_card_or_an_error(front_matter: str, body: str) -> None:
    text = f"---\n{front_matter}\n---\n{body}"
    problems = validate_card(text, RepoKind.MODEL)
    assert all(isinstance(problem, CardProblem) and problem.message for problem in problems)
    read_card(text)
    assert all(len(problem.message) < 1000 for problem in problems)
    with suppress(Invalid):
        card = parse_card(text)
        json.dumps(card.metadata, allow_nan=False).encode()
        assert depth(card.metadata) <= MAX_DEPTH + 1
        card.gate_form()


@given(ANY_TEXT)
def test_any_text_without_a_fence_can_be_read(text: str) -> None:
    read_card(text)
    validate_card(text, RepoKind.SPACE)


@settings(deadline=2000)
@given(st.dictionaries(st.text("abcdef_", min_size=1, max_size=8), json_values, max_size=5))
def test_json_is_read_back_as_it_was(metadata: dict[str, JsonValue]) -> None:
    assert read_front_matter(json.dumps(metadata, ensure_ascii=False)) == metadata
