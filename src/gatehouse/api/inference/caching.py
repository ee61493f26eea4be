"""The response cache as every surface uses it: what the caller wants of it, and what they are told.

Called inside `ModelCall.counted`: whoever may not run the model, or not now, gets no kept answer.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from gatehouse import __version__
from gatehouse.api.inference.answers import json_answer
from gatehouse.api.inference.calls import ModelCall
from gatehouse.api.inference.figures import figures_of
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.response_cache import (
    CacheOutcome,
    CacheScope,
    CacheUse,
    cache_key,
    cache_use,
)
from gatehouse.inference.generation import Target
from gatehouse.inference.lifecycle.messages import ModelSource


async def cached_answer(
    call: ModelCall,
    body: dict[str, Any],
    target: Target,
    job: Any,
    run: Callable[[], Awaitable[CachedAnswer]],
    *,
    task: str,
    variant: str,
    by_default: bool = True,
) -> Response:
    """The kept answer to this job or a new one, with the headers that say which and what it took.

    Args:
        call: The call, which has been counted.
        body: For its `options.use_cache`.
        target: The model.
        job: All that the answer depends on, and nothing about the caller: no priority, no name.
        run: Gives a new answer.
        task: What the model is asked to do.
        variant: The shape of the answer: the route and its defaults.
        by_default: Whether to keep answers of callers that do not ask for it; OpenAI's chat and
            completions are expected to be fresh.
    """
    scope = CacheScope(
        repository_id=call.repository.id,
        # Behind the repository's internal id; of a remote model it has the server too.
        commit_oid=target.version.partition(":")[2],
        generation=call.repository.generation,
        task=task,
        variant=variant,
        runner=__version__,
    )
    use = _wanted_use(call, body, target, by_default=by_default)
    found, outcome = await call.services.response_cache.get_or_run(
        cache_key(scope, job), call.owner, use, run
    )
    call.cache_outcome = outcome
    call.meter.is_cached = outcome is CacheOutcome.HIT
    return _answer(call, found, outcome)


def _wanted_use(
    call: ModelCall, body: dict[str, Any], target: Target, *, by_default: bool
) -> CacheUse:
    if isinstance(target.source, ModelSource) and not target.source.keeps_answers:
        return CacheUse.AVOID
    headers, options = call.request.headers, body.get("options")
    header = headers.get("x-use-cache")
    if header is None and not by_default:
        return CacheUse.AVOID
    option = options.get("use_cache") if isinstance(options, dict) else None
    return cache_use(header, option, headers.get("cache-control"))


def _answer(call: ModelCall, found: CachedAnswer, outcome: CacheOutcome) -> Response:
    headers = call.headers | {"x-cache": outcome.value}
    if outcome is not CacheOutcome.HIT:
        headers |= figures_of(call, found.num_characters)
    else:
        # The times are those of the first run, so they are left out.
        headers |= {
            "x-compute-type": "cache",
            "x-prompt-tokens": str(found.num_prompt_tokens),
            "x-generated-tokens": str(found.num_generated_tokens),
        }
        if found.num_characters is not None:
            headers["x-compute-characters"] = str(found.num_characters)
    answer = json_answer(found.body, headers)
    answer.headers["content-type"] = found.content_type
    return answer
