import random
from itertools import islice

import pytest

from gatehouse.training.demo.corpus import draw_story, introduce, training_documents
from gatehouse.training.demo.exchanges import FAMILIES, draw_exchange, is_held_out
from gatehouse.training.demo.grammar import Writer
from gatehouse.training.demo.sections import parse_sections
from gatehouse.training.demo.stories import PLOTS, invent_character, tell_story


def test_a_choice_may_stand_inside_a_choice() -> None:
    writer = Writer(random.Random(0), {"animal": ("owl",)})
    texts = {
        writer.write("a [big|[tiny|old]] <animal> [saw {who}|] .", {"who": "Ann"})
        for _ in range(60)
    }
    adjectives = ("A big", "A tiny", "An old")
    assert texts == {f"{each} owl{end}." for each in adjectives for end in ("", " saw Ann")}


def test_a_template_that_names_nothing_known_is_refused() -> None:
    writer = Writer(random.Random(0), {})
    with pytest.raises(KeyError):
        writer.write("<animal>")
    with pytest.raises(KeyError):
        writer.write("{who}")


def test_sections_keep_their_order_and_leave_out_remarks() -> None:
    sections = parse_sections("# remark\n[one]\na\n\n[b|c]\n[two words]\n")
    assert sections == {"one": ("a", "[b|c]"), "two words": ()}


@pytest.mark.parametrize("text", ["stray\n[one]\n", "[one]\n[one]\n"])
def test_a_broken_text_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="section"):
        parse_sections(text)


def test_the_same_seed_writes_the_same_corpus() -> None:
    first = list(islice(training_documents(7), 50))
    assert first == list(islice(training_documents(7), 50))
    assert first != list(islice(training_documents(8), 50))


def test_no_sign_of_a_template_is_left_in_the_text() -> None:
    for document in islice(training_documents(1), 3000):
        text = document.text + "".join(message["content"] for message in document.messages)
        assert not set("[]{}<>|") & set(text)
        assert "  " not in text


def test_held_out_compositions_never_reach_training() -> None:
    trained = {
        exchange.key
        for document in islice(training_documents(3), 5000)
        for exchange in document.exchanges
    }
    assert len(trained) > 500
    assert not any(is_held_out(key) for key in trained)
    names = {
        document.exchanges[-1].key
        for document in (introduce(name, "a robot") for name in ("Mira", "Zorba", "Kalo", "Renbel"))
    }
    assert names == {"name Mira", "name Zorba", "name Kalo", "name Renbel"}


def test_held_out_questions_are_only_those() -> None:
    rng = random.Random(0)
    assert all(is_held_out(draw_exchange(rng, "sum", held_out=True).key) for _ in range(20))
    with pytest.raises(ValueError, match="holds nothing out"):
        draw_exchange(rng, "gatehouse", held_out=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_asks_different_things(family: str) -> None:
    rng = random.Random(0)
    exchanges = [draw_exchange(rng, family) for _ in range(60)]
    assert len({exchange.question for exchange in exchanges}) > 10
    assert all(
        exchange.answer[0].isupper() or exchange.answer[0].isdigit() for exchange in exchanges
    )


@pytest.mark.parametrize("plot", PLOTS)
def test_a_story_is_about_its_hero(plot: str) -> None:
    rng = random.Random(5)
    for animal in (False, True):
        hero = invent_character(rng, animal=animal)
        story = tell_story(rng, hero=hero, plot=plot)
        assert story.count(hero.name) >= 2
        assert hero.kind in story
        assert story[-1] in '."'


def test_stories_are_hardly_ever_the_same() -> None:
    rng = random.Random(0)
    assert len({draw_story(rng) for _ in range(500)}) == 500
