"""Stop strings, compared with the plain definition on the whole text, for every way to cut it."""

from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.text.stop_strings import StopStrings

texts = st.text(alphabet="ab ", max_size=30)
stops_lists = st.lists(st.text(alphabet="ab ", min_size=1, max_size=4), max_size=3)


def cut_at_first_stop(text: str, stops: list[str], *, keep: bool) -> tuple[str, bool]:
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end if keep else end - max(map(len, found))], True
    return text, False


@given(texts, stops_lists, st.booleans(), st.data())
def test_any_cut_gives_the_same_text(
    text: str, stops: list[str], keep: bool, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    matcher = StopStrings(stops, keep=keep)
    shown = ""
    expected, stopped = cut_at_first_stop(text, stops, keep=keep)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown += matcher.feed(text[start:end])
        assert expected.startswith(shown)
        if matcher.is_stopped:
            break
    shown += matcher.flush()
    assert (shown, matcher.is_stopped) == (expected, stopped)
