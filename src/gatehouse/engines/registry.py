"""Engines by name. Importing this loads none of them: a host imports the one that it runs."""

from enum import StrEnum
from importlib import import_module
from typing import cast

from gatehouse.engines.base import LoadEngine


class EngineName(StrEnum):
    TEXT_GENERATION = "text-generation"
    EMBEDDINGS = "embeddings"


_PLACES = {
    EngineName.TEXT_GENERATION: (
        "gatehouse.engines.choice",
        "load_text_generation",
    ),
    EngineName.EMBEDDINGS: ("gatehouse.engines.pipelines.embeddings", "load_embeddings"),
}


def find_engine(name: EngineName) -> LoadEngine:
    """The function that loads an engine of this name; imports its libraries."""
    module, function = _PLACES[name]
    return cast("LoadEngine", getattr(import_module(module), function))
