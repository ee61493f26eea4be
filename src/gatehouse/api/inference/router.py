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

# To be tried before all other routes of the hub: matching one takes 4 microseconds, and some thirty
# would be tried before these. No other route has their addresses.
busiest = APIRouter()
busiest.include_router(generate.busiest)
busiest.include_router(chat.busiest)

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
