"""What a model makes of a text or a conversation, without running it."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import json_answer
from gatehouse.api.inference.bodies import read_json_object
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.paths import model_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.engines.base import ModelDescription, Prompt, TextPrompt, TokenizedPrompt
from gatehouse.inference.chat.jobs import ChatJob, parse_chat
from gatehouse.inference.chat.prompts import chat_prompt
from gatehouse.inference.errors import ValidationFailed

router = APIRouter(route_class=InferenceRoute)


async def tokenize(call: ModelCallDependency, request: Request) -> Response:
    return await answer_tokenize(call, request)


async def chat_tokenize(call: ModelCallDependency, request: Request) -> Response:
    return await answer_chat_tokenize(call, request)


async def answer_tokenize(call: ModelCall, request: Request) -> Response:
    """A bare list of tokens with their places in the text."""
    body = await read_json_object(request)
    inputs = body.get("inputs")
    if not isinstance(inputs, str):
        raise ValidationFailed("`inputs` must be a string")
    tokenized = await _tokenized(call, body, lambda _model: TextPrompt(inputs))
    return json_answer(_tokens(tokenized), call.headers)


async def answer_chat_tokenize(call: ModelCall, request: Request) -> Response:
    """The tokens of a conversation, and the text that the model's template makes of it."""
    body = await read_json_object(request)
    job = parse_chat(body, call.limits.max_new_tokens)
    tokenized = await _tokenized(call, body, lambda model: _conversation(job, model))
    answer = {"tokenize_response": _tokens(tokenized), "templated_text": tokenized.text}
    return json_answer(answer, call.headers)


async def _tokenized(
    call: ModelCall, body: dict[str, Any], prompt_for: Callable[[ModelDescription], Prompt]
) -> TokenizedPrompt:
    async with call.counted(0):
        target = await call.find_model(body, is_stream=False)
        async with call.services.generation.hold(target) as model:
            return await model.tokenize(prompt_for(model.description), call.limits.priority)


def _conversation(job: ChatJob, model: ModelDescription) -> Prompt:
    return chat_prompt(job, model.chat.tool_markup if model.chat is not None else None)


def _tokens(tokenized: TokenizedPrompt) -> list[dict[str, Any]]:
    return [
        {"id": token.id, "text": token.text, "start": token.start, "stop": token.stop}
        for token in tokenized.tokens
    ]


for _path in model_paths("/tokenize"):
    router.add_api_route(_path, tokenize, methods=["POST"], include_in_schema=False)
for _path in model_paths("/chat_tokenize"):
    router.add_api_route(_path, chat_tokenize, methods=["POST"], include_in_schema=False)
