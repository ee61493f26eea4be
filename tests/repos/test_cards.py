"""Cards: the front matter that clients write, and the front matter that an attacker writes."""

import json
import time

import pytest

from gatehouse.core.ids import RepoKind
from gatehouse.repos.cards import CardProblem, ProblemKind, parse_card, read_card, validate_card
from gatehouse.repos.front_matter import InvalidFrontMatter
from gatehouse.repos.gate_forms import (
    GateField,
    GateFieldType,
    GateOption,
    InvalidGateAnswer,
    check_gate_answers,
)


def card_text(front_matter: str, body: str = "# Title\n") -> str:
    return f"---\n{front_matter}\n---\n{body}"


def errors(front_matter: str, kind: RepoKind = RepoKind.MODEL) -> list[str]:
    found = validate_card(card_text(front_matter), kind)
    return [problem.message for problem in found if problem.kind is ProblemKind.ERROR]


def test_front_matter_and_body_are_split() -> None:
    card = parse_card(card_text("license: mit\ntags:\n- a\n- b"))
    assert card.metadata == {"license": "mit", "tags": ["a", "b"]}
    assert card.body == "# Title\n"
    assert card.texts("license") == ("mit",)
    assert card.texts("tags") == ("a", "b")
    assert card.text("absent") is None


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    card = parse_card("\ufeff---\r\nlicense: mit\r\n---\r\nText\r\n")
    assert card.metadata == {"license": "mit"}
    assert card.body == "Text\r\n"


@pytest.mark.parametrize("text", ["", "# Just text", "text\n---\nlicense: mit\n---\n", "---\nopen"])
def test_text_without_front_matter_is_all_body(text: str) -> None:
    card = parse_card(text)
    assert card.metadata == {}
    assert card.body == text


def test_a_rule_in_the_body_is_not_a_fence() -> None:
    assert parse_card(card_text("a: 1", "one\n\n---\n\ntwo")).body == "one\n\n---\n\ntwo"


def test_norwegian_is_a_language_and_a_date_stays_as_written() -> None:
    metadata = parse_card(
        card_text("language: no\nreleased: 2024-01-31\nat: 12:30\nx: 1e3")
    ).metadata
    assert metadata == {"language": "no", "released": "2024-01-31", "at": "12:30", "x": 1000.0}


def test_metadata_is_always_json() -> None:
    text = "n: .nan\ni: .inf\nt: 2024-01-01T00:00:00Z\nb: !!binary aGk=\n1: one\nnull: x\nh: 0x10"
    with pytest.raises(InvalidFrontMatter, match="tag"):
        parse_card(card_text(text))
    metadata = parse_card(card_text(text.replace("!!binary ", ""))).metadata
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    assert metadata["1"] == "one"


def test_an_alias_stands_for_its_value() -> None:
    metadata = parse_card(card_text("a: &x {type: d, name: n}\nb: *x\nc: [*x, *x]")).metadata
    assert metadata["c"] == [{"type": "d", "name": "n"}] * 2


def billion_laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("front_matter", "problem"),
    [
        (billion_laughs(), "stands for more than"),
        ("a: &a [*a]", "nothing before it"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper"),
        ("a: " + "[" * 20_000, "nest"),
        ("\n".join(f"{' ' * n}a:" for n in range(60)), "nested deeper"),
        ("license: mit\nlicense: apache-2.0", "line 3: `license` is given twice"),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("a: !!python/object/apply:os.system [id]", "tag"),
        ("a: 'unclosed", "not valid YAML"),
        ("- a\n- b", "must be a mapping"),
        ("just words", "must be a mapping"),
        ("a: 1\n--- # next\nb: 2", "more than one"),
        ("? [a]\n: b", "key must be plain text"),
        ("a: *nothing", "nothing before it"),
        ('a: "\\0"', "cannot be stored"),
        ("a: \ud800", "surrogate"),
        ("a: " + "x" * 70_000, "larger than 64 KiB"),
        ("a: [" + "1," * 25_000 + "1]", "stands for more than"),
        ("a: \x01", "not valid YAML"),
    ],
)
def test_hostile_or_broken_front_matter_is_refused_quickly(front_matter: str, problem: str) -> None:
    text = card_text(front_matter)
    started = time.process_time()
    with pytest.raises(InvalidFrontMatter, match=problem):
        parse_card(text)
    assert time.process_time() - started < 2
    assert errors(front_matter)
    assert read_card(text).metadata == {}


def test_an_error_names_the_line_of_the_file() -> None:
    assert "line 4" in errors("license: mit\ntags:\n\t- a")[0]


@pytest.mark.parametrize(
    ("front_matter", "problem"),
    [
        ("license: {a: b}", "`license` must be a text or a list of texts."),
        ("tags: text", "`tags` must be a list of texts."),
        ("pipeline_tag: [a]", "`pipeline_tag` must be a text."),
        ("model-index: {}", "`model-index` must be a list."),
        ("model-index:\n- results: []", "`model-index[0].name` must be a text."),
        ("model-index:\n- name: a\n  results: 3", "`model-index[0].results` must be a list."),
        ("extra_gated_fields: text", "`extra_gated_fields` must be a mapping of names to types."),
        ("extra_gated_prompt: [a]", "`extra_gated_prompt` must be a text."),
    ],
)
def test_a_key_of_the_wrong_shape_is_an_error(front_matter: str, problem: str) -> None:
    assert errors(front_matter) == [problem]


def test_a_good_card_has_no_problems() -> None:
    text = card_text(
        "license: mit\ntags: [a]\nlanguage: en\nmodel-index:\n- name: m\n  results: []"
    )
    assert validate_card(text, RepoKind.MODEL) == ()


@pytest.mark.parametrize("text", ["# Only text", "---\nnever closed"])
def test_a_card_without_metadata_is_a_warning(text: str) -> None:
    [problem] = validate_card(text, RepoKind.MODEL)
    assert problem.kind is ProblemKind.WARNING


def test_a_space_without_an_sdk_is_a_warning() -> None:
    found = validate_card(card_text("title: A"), RepoKind.SPACE)
    assert found == (
        CardProblem(
            ProblemKind.WARNING,
            "`sdk` of a Space should be one of docker, gradio, static, streamlit.",
        ),
    )


GATED = """
extra_gated_heading: Acknowledge the terms
extra_gated_prompt: "You agree *not* to do harm."
extra_gated_button_content: I acknowledge
extra_gated_fields:
  Company: text
  Country: country
  Date of birth: date_picker
  I want to use this model for:
    type: select
    options:
      - Research
      - label: Something else
        value: other
  I agree: checkbox
"""


def test_the_documented_gate_form_is_read() -> None:
    form = parse_card(card_text(GATED)).gate_form()
    assert (form.heading, form.button) == ("Acknowledge the terms", "I acknowledge")
    assert form.prompt == "You agree *not* to do harm."
    names = [field.name for field in form.fields]
    assert names == [
        "Company",
        "Country",
        "Date of birth",
        "I want to use this model for",
        "I agree",
    ]
    assert form.fields[3] == GateField(
        "I want to use this model for",
        GateFieldType.SELECT,
        (GateOption("Research", "Research"), GateOption("other", "Something else")),
    )
    countries = {option.value: option.label for option in form.fields[1].options}
    assert len(countries) == 249
    assert countries["NO"] == "Norway"


def test_fields_given_as_a_list_are_read() -> None:
    form = parse_card(card_text("extra_gated_fields:\n- Name: text\n- Agree: checkbox")).gate_form()
    assert [field.type for field in form.fields] == [GateFieldType.TEXT, GateFieldType.CHECKBOX]


GOOD_ANSWERS: dict[str, object] = {
    "Company": " Acme ",
    "Country": "NO",
    "Date of birth": "1990-02-28",
    "I want to use this model for": "other",
    "I agree": "on",
    "not asked": "dropped",
}


def test_good_answers_are_kept_in_the_order_of_the_form() -> None:
    form = parse_card(card_text(GATED)).gate_form()
    assert check_gate_answers(form, GOOD_ANSWERS) == {
        "Company": "Acme",
        "Country": "NO",
        "Date of birth": "1990-02-28",
        "I want to use this model for": "other",
        "I agree": True,
    }


@pytest.mark.parametrize(
    ("field", "answer"),
    [
        ("Company", "   "),
        ("Company", "x" * 3000),
        ("Company", 7),
        ("Country", "Norway"),
        ("Date of birth", "1990-02-30"),
        ("Date of birth", "1990-W01-1"),
        ("I want to use this model for", "Something else"),
        ("I agree", ""),
        ("I agree", False),
        ("I agree", None),
    ],
)
def test_a_wrong_answer_is_refused_by_name(field: str, answer: object) -> None:
    form = parse_card(card_text(GATED)).gate_form()
    with pytest.raises(InvalidGateAnswer) as caught:
        check_gate_answers(form, {**GOOD_ANSWERS, field: answer})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        "{Name: colour}",
        "{Name: {type: select}}",
        "{Name: {type: select, options: [[a]]}}",
        "{Name: {type: select, options: []}}",
        "{'': text}",
        "[{Name: text}, {Name: checkbox}]",
        "{" + ", ".join(f"f{n}: text" for n in range(60)) + "}",
    ],
)
def test_a_form_that_cannot_be_shown_is_an_error(fields: str) -> None:
    [message] = errors(f"extra_gated_fields: {fields}")
    assert "extra_gated_fields" in message
