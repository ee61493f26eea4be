"""A card made to be slow is slow once, not for each visitor."""

from time import perf_counter

from gatehouse.web.markdown import render_markdown


def test_the_same_text_is_rendered_once() -> None:
    text = "*a_" * 10_000
    started = perf_counter()
    first = render_markdown(text)
    once = perf_counter() - started
    started = perf_counter()
    for _ in range(20):
        assert render_markdown("*a_" * 10_000) is first
    assert perf_counter() - started < once
