"""Whatever a grammar says: it is compiled or refused, and the process that tries it goes on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatehouse.engines.base import Grammar, GrammarKind
from gatehouse.engines.grammars.check_client import GrammarChecks
from gatehouse.engines.grammars.texts import GrammarInvalid, compilable_text

KEYWORDS = st.sampled_from(
    [
        "type", "properties", "required", "items", "anyOf", "allOf", "oneOf", "enum", "const",
        "$ref", "$defs", "pattern", "minLength", "maxLength", "minimum", "maximum", "multipleOf",
        "additionalProperties", "patternProperties", "prefixItems", "minItems", "format", "not",
        "x-guidance",
    ]
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        st.sampled_from(
            ["object", "string", "integer", "array", "#", "#/$defs/a", "[a-z]{1,99}", "(", "date"]
        ),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(KEYWORDS, inner, max_size=4)
    ),
    max_leaves=12,
)
SCHEMAS = st.one_of(
    st.dictionaries(KEYWORDS, VALUES, max_size=5).map(json.dumps),
    st.text(max_size=60),
)
REGEXES = st.text(st.sampled_from("ab()[]{}|*+?.^$\\dws0129,-/&~:=!<>\n\"'é\ud800"), max_size=24)
LARKS = st.text(st.sampled_from('start: AB()[]{}|*+?/"\n~&%json0123<>_-.'), max_size=60)
GRAMMARS = st.one_of(
    SCHEMAS.map(lambda text: Grammar(GrammarKind.JSON_SCHEMA, text)),
    REGEXES.map(lambda text: Grammar(GrammarKind.REGEX, text)),
    LARKS.map(lambda text: Grammar(GrammarKind.LARK, f"start: {text}")),
    st.text(max_size=20).map(lambda text: Grammar(GrammarKind.JSON_OBJECT, text)),
)


@pytest.fixture(scope="module")
def checks() -> Iterator[GrammarChecks]:
    checks = GrammarChecks()
    yield checks
    checks.close()


@settings(max_examples=150, deadline=None)
@given(grammar=GRAMMARS)
def test_any_grammar_is_tried_or_refused(checks: GrammarChecks, grammar: Grammar) -> None:
    sentence = refusal(checks, grammar)
    assert sentence is None or 0 < len(sentence) <= 300
    assert "\n" not in (sentence or "")
    process: Any = checks._process
    assert process is None or process.poll() is None


def refusal(checks: GrammarChecks, grammar: Grammar) -> str | None:
    try:
        checks.check(compilable_text(grammar))
    except GrammarInvalid as refused:
        return refused.message
    return None
