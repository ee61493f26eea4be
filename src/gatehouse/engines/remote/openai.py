"""OpenAI's completions and chat completions, as vLLM and others speak them."""

from typing import Any

import msgspec

from gatehouse.engines.base import (
    ChatPrompt,
    FinishReason,
    GenerationRequest,
    GrammarKind,
    InfillPrompt,
    Prompt,
    RefusalKind,
    RequestRefused,
    SamplingParams,
    ScoredToken,
    TaskPrompt,
    TextPrompt,
    TokenizedPrompt,
    TokensPrompt,
)
from gatehouse.engines.remote.base import (
    UNKNOWN_TOKEN_ID,
    Call,
    Counts,
    Delta,
    DeltaReader,
    DeltaToken,
    RemoteAbilities,
    RouteAbilities,
    UpstreamFailed,
    UpstreamMalformed,
)
from gatehouse.engines.remote.chat_markup import ChatMarkup
from gatehouse.engines.remote.json_values import (
    count_or_none,
    inner_list,
    inner_object,
    number_or_none,
    read_object,
    text_or_none,
)
from gatehouse.engines.remote.prompt_tokens import align_tokens, read_token_ids

_COMPLETIONS = "/v1/completions"
_CHAT = "/v1/chat/completions"
_TOKENIZE = "/tokenize"
# OpenAI's seed is a signed number of 64 bits, ours is not signed.
_SEED_MASK = 2**63 - 1
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    # Stop texts are looked for here, so this is the model's own end.
    "stop": FinishReason.EOS_TOKEN,
    "tool_calls": FinishReason.EOS_TOKEN,
    "function_call": FinishReason.EOS_TOKEN,
    "content_filter": FinishReason.EOS_TOKEN,
    "eos_token": FinishReason.EOS_TOKEN,
    "stop_sequence": FinishReason.EOS_TOKEN,
}


def refused(message: str) -> RequestRefused:
    return RequestRefused(RefusalKind.VALIDATION, message)


def read_schema(text: str) -> dict[str, Any]:
    """A JSON schema.

    Raises:
        RequestRefused: It is none.
    """
    try:
        return read_object(text.encode())
    except UpstreamMalformed:
        raise refused("grammar is not valid: the schema must be a JSON object") from None


class OpenAIDialect:
    """`Dialect` of a server that knows the model as `model_name`."""

    def __init__(self, model_name: str, abilities: RemoteAbilities) -> None:
        self._model_name = model_name
        self._abilities = abilities

    def generation(self, request: GenerationRequest, seed: int | None) -> Call:
        is_chat = isinstance(request.prompt, ChatPrompt)
        route = self._abilities.chat if is_chat else self._abilities.text
        if route is None:
            what = "conversations" if is_chat else "plain text"
            raise refused(f"the server that runs this model does not take {what}")
        body = {"model": self._model_name, "stream": True}
        body |= _prompt(request.prompt) | _sampling(request.sampling, seed) | _grammar(request)
        if not request.fit_to_context or not is_chat:
            body["max_tokens"] = request.max_new_tokens
        if request.show_special and not is_chat:
            # vLLM's name. In a conversation the server itself reads what its markers mean.
            body["skip_special_tokens"] = False
        if route.usage:
            body["stream_options"] = {"include_usage": True}
        body |= self._logprobs(route, request, is_chat=is_chat)
        return Call(_CHAT if is_chat else _COMPLETIONS, body)

    def reader(self, request: GenerationRequest) -> DeltaReader:
        return _ChatReader() if isinstance(request.prompt, ChatPrompt) else _TextReader()

    def tokenization(self, prompt: Prompt) -> Call:
        if not self._abilities.can_tokenize:
            raise refused("the server that runs this model does not show its tokens")
        body: dict[str, Any] = {"model": self._model_name, "return_token_strs": True}
        if isinstance(prompt, TextPrompt):
            return Call(_TOKENIZE, body | {"prompt": prompt.text})
        if isinstance(prompt, ChatPrompt):
            return Call(_TOKENIZE, body | _chat_prompt(prompt))
        raise refused("only texts and conversations can be shown as tokens")

    def read_tokens(self, prompt: Prompt, answer: bytes) -> TokenizedPrompt:
        fields = read_object(answer)
        ids = read_token_ids(fields.get("tokens"))
        strings = [text_or_none(item) or "" for item in inner_list(fields.get("token_strs"))]
        text = prompt.text if isinstance(prompt, TextPrompt) else None
        return align_tokens(ids, strings, text)

    def _logprobs(
        self, route: RouteAbilities, request: GenerationRequest, *, is_chat: bool
    ) -> dict[str, Any]:
        num_top = request.num_top_tokens
        if not route.logprobs:
            if num_top:
                raise refused("the server that runs this model does not give log-probabilities")
            return {}
        if not is_chat:
            return {"logprobs": max(1, num_top)}
        return {"logprobs": True} | ({"top_logprobs": num_top} if num_top else {})


def _prompt(prompt: Prompt) -> dict[str, Any]:
    match prompt:
        case TextPrompt() | TaskPrompt():
            return {"prompt": prompt.text}
        case TokensPrompt():
            return {"prompt": list(prompt.ids)}
        case InfillPrompt():
            return {"prompt": prompt.prefix, "suffix": prompt.suffix}
        case ChatPrompt():
            return _chat_prompt(prompt)


def _chat_prompt(prompt: ChatPrompt) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [_message(message) for message in prompt.messages]}
    if prompt.tools:
        body["tools"] = list(prompt.tools)
    if prompt.continue_final_message:
        # vLLM's names; servers that lack them answer with a turn of their own.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if prompt.template_arguments:
        body["chat_template_kwargs"] = dict(prompt.template_arguments)
    return body


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Templates take the arguments of a call as an object, the wire as a text."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list | tuple):
        return message
    return message | {"tool_calls": [_call(inner_object(call)) for call in calls]}


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = inner_object(call.get("function"))
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return call | {"type": "function", "function": function | {"arguments": arguments}}


def _sampling(sampling: SamplingParams, seed: int | None) -> dict[str, Any]:
    if sampling.typical_p is not None:
        raise refused("`typical_p` is not known to the server that runs this model")
    if sampling.min_length is not None:
        raise refused("`min_length` is not known to the server that runs this model")
    body: dict[str, Any] = {}
    if seed is None:
        body["temperature"] = 0
    else:
        optional = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
        }
        body = {name: value for name, value in optional.items() if value is not None}
        body["seed"] = seed & _SEED_MASK
    if sampling.repetition_penalty is not None:
        body["repetition_penalty"] = sampling.repetition_penalty
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias}
    return body


def _grammar(request: GenerationRequest) -> dict[str, Any]:
    grammar = request.grammar
    if grammar is None:
        return {}
    tools = request.prompt.tools if isinstance(request.prompt, ChatPrompt) else None
    if tools and grammar.kind is GrammarKind.LARK:
        return _tool_choice(tools)
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return {"response_format": {"type": "json_object"}}
        case GrammarKind.JSON_SCHEMA:
            schema = {"name": "answer", "schema": read_schema(grammar.text)}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case GrammarKind.REGEX:
            # Both names that vLLM has had for it.
            return {
                "structured_outputs": {"regex": grammar.text},
                "guided_regex": grammar.text,
            }
        case GrammarKind.LARK:
            raise refused("the server that runs this model does not take grammars of this kind")


def _tool_choice(tools: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """A grammar of calls makes the model call a tool; upstream knows how to say that itself."""
    if len(tools) > 1:
        return {"tool_choice": "required"}
    name = inner_object(tools[0].get("function")).get("name")
    return {"tool_choice": {"type": "function", "function": {"name": name}}}


class _TextReader:
    def read(self, event: bytes) -> Delta:
        choice, counts = _choice(event)
        text = text_or_none(choice.get("text")) or ""
        return Delta(text, _text_tokens(choice), _finish(choice), counts)


class _ChatReader:
    def __init__(self) -> None:
        self._markup = ChatMarkup()

    def read(self, event: bytes) -> Delta:
        choice, counts = _choice(event)
        finish = _finish(choice)
        text = self._markup.read(inner_object(choice.get("delta")))
        if finish is not None:
            text += self._markup.end()
        return Delta(text, _chat_tokens(choice), finish, counts)


def _choice(event: bytes) -> tuple[dict[str, Any], Counts | None]:
    """The first choice, empty if there is none, and the usage beside it."""
    fields = read_object(event)
    if fields.get("error"):
        raise UpstreamFailed(_error_text(fields["error"]))
    choices = inner_list(fields.get("choices"))
    choice = inner_object(choices[0]) if choices else {}
    return choice, _counts(fields.get("usage"))


def _text_tokens(choice: dict[str, Any]) -> tuple[DeltaToken, ...]:
    logprobs = inner_object(choice.get("logprobs"))
    texts = inner_list(logprobs.get("tokens"))
    # Servers that leave one of the lists out give nulls.
    scores = inner_list(logprobs.get("token_logprobs")) or [None] * len(texts)
    tops = inner_list(logprobs.get("top_logprobs")) or [None] * len(texts)
    return tuple(
        DeltaToken(_scored(text, score), _likeliest(inner_object(top)))
        for text, score, top in zip(texts, scores, tops, strict=False)
    )


def _likeliest(top: dict[str, Any]) -> tuple[ScoredToken, ...]:
    tokens = [_scored(text, score) for text, score in top.items()]
    return tuple(sorted(tokens, key=_by_likelihood))


def _by_likelihood(token: ScoredToken) -> float:
    return -(token.logprob or 0.0)


def _chat_tokens(choice: dict[str, Any]) -> tuple[DeltaToken, ...]:
    content = inner_list(inner_object(choice.get("logprobs")).get("content"))
    found = []
    for item in map(inner_object, content):
        likeliest = map(inner_object, inner_list(item.get("top_logprobs")))
        top = [_scored(other.get("token"), other.get("logprob")) for other in likeliest]
        # vLLM puts the token that was chosen first, however likely it was.
        top.sort(key=_by_likelihood)
        found.append(DeltaToken(_scored(item.get("token"), item.get("logprob")), tuple(top)))
    return tuple(found)


def _scored(text: Any, logprob: Any) -> ScoredToken:
    return ScoredToken(
        UNKNOWN_TOKEN_ID, text_or_none(text) or "", number_or_none(logprob), special=False
    )


def _finish(choice: dict[str, Any]) -> FinishReason | None:
    reason = text_or_none(choice.get("finish_reason"))
    # TGI sends an empty text in the middle.
    return _FINISH_REASONS.get(reason, FinishReason.EOS_TOKEN) if reason else None


def _counts(usage: Any) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    return Counts(
        count_or_none(usage.get("prompt_tokens")), count_or_none(usage.get("completion_tokens"))
    )


def _error_text(error: Any) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return str(text)[:300]
