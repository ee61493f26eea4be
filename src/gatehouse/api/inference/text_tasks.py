"""Summaries and translations: the tasks of text whose answers have shapes of their own."""

from typing import Any

import msgspec
from starlette.responses import Response

from gatehouse.api.inference.caching import cached_answer
from gatehouse.api.inference.calls import ModelCall
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.text_tasks import TextTaskJob, parse_text_task


async def answer_named_task(call: ModelCall, body: dict[str, Any], task: str) -> Response:
    """The answer to a body of a task of `ANSWER_KEYS`."""
    limits = call.limits
    job = parse_text_task(task, body, limits.max_new_tokens, limits.priority)
    await call.use_adapter(body.get("parameters") or {})
    return await call.unless_client_leaves(lambda: _run(call, body, job))


async def _run(call: ModelCall, body: dict[str, Any], asked: TextTaskJob) -> Response:
    job = asked.job
    async with call.counted(job.num_new_tokens, len(job.prompts)):
        target = await call.find_model(body, is_stream=False, task=asked.task)

        async def run() -> CachedAnswer:
            answer = await call.services.generation.run(target, job, as_list=True)
            return CachedAnswer(
                msgspec.json.encode(asked.shaped(answer.body)),
                sum(map(len, job.prompts)),
                answer.num_prompt_tokens,
                answer.num_generated_tokens,
            )

        parts = (job.cache_parts, asked.cleans_up)
        return await cached_answer(
            call, body, target, parts, run, task=asked.task, variant=asked.task
        )
