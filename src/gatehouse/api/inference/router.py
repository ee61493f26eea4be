"""All inference routes, in the order in which they are tried."""

from fastapi import APIRouter

from gatehouse.api.inference import (
    bare_names,
    chat,
    completions,
    default_model,
    embeddings,
    generate,
    infos,
    later,
    metrics,
    models,
    responses,
    tasks,
    tokenize,
)

router = APIRouter()
for _part in (
    generate,
    chat,
    completions,
    embeddings,
    responses,
    models,
    tokenize,
    tasks,
    infos,
    metrics,
    default_model,
    later,
    bare_names,
):
    router.include_router(_part.router)
