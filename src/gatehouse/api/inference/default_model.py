"""The routes of a text-generation-inference server, for the one model that the settings name.

`GET /health` and `/ping` are the hub's own.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.generate import answer_generate, answer_whatever
from gatehouse.api.inference.infos import answer_info
from gatehouse.api.inference.paths import root_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.api.inference.root_calls import DefaultCall
from gatehouse.api.inference.tokenize import answer_chat_tokenize, answer_tokenize

router = APIRouter(route_class=InferenceRoute)


async def invoke(call: DefaultCall, request: Request) -> Response:
    return await answer_whatever(call, request)


async def generate(call: DefaultCall, request: Request) -> Response:
    return await answer_generate(call, request, is_stream=False)


async def generate_stream(call: DefaultCall, request: Request) -> Response:
    return await answer_generate(call, request, is_stream=True)


async def tokenize(call: DefaultCall, request: Request) -> Response:
    return await answer_tokenize(call, request)


async def chat_tokenize(call: DefaultCall, request: Request) -> Response:
    return await answer_chat_tokenize(call, request)


async def info(call: DefaultCall) -> Response:
    return await answer_info(call)


_POSTED = {
    "/invocations": invoke,
    "/generate": generate,
    "/generate_stream": generate_stream,
    "/tokenize": tokenize,
    "/chat_tokenize": chat_tokenize,
}

# The start page has this address too; it is read, never posted to.
router.add_api_route("/", invoke, methods=["POST"], include_in_schema=False)
for _rest, _answer in _POSTED.items():
    for _path in root_paths(_rest):
        router.add_api_route(_path, _answer, methods=["POST"], include_in_schema=False)
for _path in root_paths("/info"):
    router.add_api_route(_path, info, methods=["GET"], include_in_schema=False)
