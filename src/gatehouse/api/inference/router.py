"""All inference routes, in the order in which they are tried."""

from fastapi import APIRouter

from gatehouse.api.inference import chat, generate, infos, later

router = APIRouter()
for _part in (generate.router, chat.router, infos.router, later.router):
    router.include_router(_part)
