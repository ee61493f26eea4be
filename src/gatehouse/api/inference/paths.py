"""The ways in which clients write a model's address."""

from collections.abc import Sequence

_MODEL = "/models/{namespace:name}/{name:name}"


def model_paths(rest: str, ends: Sequence[str] = ("", "/")) -> list[str]:
    """Route paths for something below a model.

    Newer clients that were led here by a proxy put `/hf-inference` in front; some add a slash.
    """
    return [f"{prefix}{_MODEL}{rest}{end}" for prefix in ("", "/hf-inference") for end in ends]
