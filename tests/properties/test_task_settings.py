"""What a model's configuration says of its tasks may be anything at all."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.pipelines.task_settings import task_settings

KEYS = st.sampled_from(["prefix", "max_length", "min_length", "no_repeat_ngram_size", "x"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([1])
)
TASKS = st.dictionaries(st.text(max_size=8), st.dictionaries(KEYS, SCALARS) | SCALARS) | SCALARS


@given(TASKS)
def test_whatever_is_said_gives_sound_settings_or_none(tasks: Any) -> None:
    for settings in task_settings(SimpleNamespace(task_specific_params=tasks)).values():
        assert isinstance(settings.prefix, str)
        assert settings.max_length is None or 0 < settings.max_length < 2**31
        assert all(0 < value < 2**31 for value in settings.rules.values())
        assert not any(isinstance(value, bool) for value in settings.rules.values())


def test_sound_settings_are_all_there() -> None:
    said = {"prefix": "summarize: ", "max_length": 200, "min_length": 30, "num_beams": 4}
    (settings,) = task_settings(SimpleNamespace(task_specific_params={"s": said})).values()
    assert (settings.prefix, settings.max_length) == ("summarize: ", 200)
    assert settings.rules == {"min_length": 30}
    assert task_settings(SimpleNamespace()) == {}
