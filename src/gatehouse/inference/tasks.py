"""The tasks that models are served for, and which engine runs each."""

from gatehouse.engines.registry import EngineName
from gatehouse.repos.infos import RepoInfo

TEXT_GENERATION = "text-generation"
FEATURE_EXTRACTION = "feature-extraction"
SENTENCE_SIMILARITY = "sentence-similarity"
SENTENCE_TRANSFORMERS = "sentence-transformers"

ENGINE_BY_TASK = {
    TEXT_GENERATION: EngineName.TEXT_GENERATION,
    FEATURE_EXTRACTION: EngineName.EMBEDDINGS,
    SENTENCE_SIMILARITY: EngineName.EMBEDDINGS,
}


def framework_of(task: str, info: RepoInfo) -> str:
    """What clients call the software that runs a model; only the first of these can stream."""
    if task == TEXT_GENERATION:
        return "text-generation-inference"
    return info.library or "transformers"


def tasks_like(task: str) -> tuple[str, ...]:
    """All tasks that a model of this one is served for, its own first."""
    engine = ENGINE_BY_TASK[task]
    others = (other for other, runs in ENGINE_BY_TASK.items() if runs is engine)
    return tuple(dict.fromkeys((task, *others)))
