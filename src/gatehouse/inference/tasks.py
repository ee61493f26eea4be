"""The tasks that models are served for, and which engine runs each."""

from gatehouse.engines.registry import EngineName
from gatehouse.repos.infos import RepoInfo

TEXT_GENERATION = "text-generation"
TEXT2TEXT_GENERATION = "text2text-generation"
SUMMARIZATION = "summarization"
TRANSLATION = "translation"
FEATURE_EXTRACTION = "feature-extraction"
SENTENCE_SIMILARITY = "sentence-similarity"
SENTENCE_TRANSFORMERS = "sentence-transformers"

ENGINE_BY_TASK = {
    TEXT_GENERATION: EngineName.TEXT_GENERATION,
    TEXT2TEXT_GENERATION: EngineName.TEXT_GENERATION,
    SUMMARIZATION: EngineName.TEXT_GENERATION,
    TRANSLATION: EngineName.TEXT_GENERATION,
    FEATURE_EXTRACTION: EngineName.EMBEDDINGS,
    SENTENCE_SIMILARITY: EngineName.EMBEDDINGS,
}

# Of tasks whose answers are not in the shape of text generation.
ANSWER_KEYS = {SUMMARIZATION: "summary_text", TRANSLATION: "translation_text"}
_SENTENCE_TASKS = (FEATURE_EXTRACTION, SENTENCE_SIMILARITY)
_TASKS_OF_TWO_TEXTS = (TEXT2TEXT_GENERATION, SUMMARIZATION, TRANSLATION)


def framework_of(task: str, info: RepoInfo) -> str:
    """What clients call the software that runs a model; only the first of these can stream."""
    if ENGINE_BY_TASK[task] is EngineName.TEXT_GENERATION:
        return "text-generation-inference"
    return info.library or "transformers"


def tasks_like(task: str) -> tuple[str, ...]:
    """All tasks that a model of this one is served for, its own first."""
    others = _SENTENCE_TASKS if task in _SENTENCE_TASKS else ()
    return tuple(dict.fromkeys((task, *others)))


def may_be_asked(task: str, wanted: str) -> bool:
    """Whether a model of text of one task can be asked for another by its name."""
    return wanted in (task, TEXT_GENERATION) or (
        task in _TASKS_OF_TWO_TEXTS and wanted in _TASKS_OF_TWO_TEXTS
    )
