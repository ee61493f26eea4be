"""The language of text-generation-inference: its own route for text, OpenAI's for conversations."""

import json
from typing import Any

from gatehouse.engines.base import (
    ChatPrompt,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    Prompt,
    PromptToken,
    SamplingParams,
    ScoredToken,
    TextPrompt,
    TokenizedPrompt,
)
from gatehouse.engines.remote.base import (
    Call,
    Counts,
    Delta,
    DeltaReader,
    DeltaToken,
    RemoteAbilities,
    UpstreamFailed,
    UpstreamMalformed,
)
from gatehouse.engines.remote.json_values import (
    count_or_none,
    inner_list,
    inner_object,
    number_or_none,
    read_object,
    text_or_none,
)
from gatehouse.engines.remote.openai import OpenAIDialect, read_schema, refused

_MAX_TOP_TOKENS = 5
_ANY_OBJECT = {"type": "object", "properties": {}}
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "eos_token": FinishReason.EOS_TOKEN,
    "stop_sequence": FinishReason.STOP_SEQUENCE,
}


class TGIDialect:
    """`Dialect` of a server that runs one model."""

    def __init__(self, model_name: str, abilities: RemoteAbilities) -> None:
        self._chat = OpenAIDialect(model_name, abilities)

    def generation(self, request: GenerationRequest, seed: int | None) -> Call:
        if isinstance(request.prompt, ChatPrompt):
            return self._chat_call(request, seed)
        if not isinstance(request.prompt, TextPrompt):
            raise refused("the server that runs this model takes texts and conversations only")
        parameters = _sampling(request.sampling, seed)
        parameters |= {
            "max_new_tokens": request.max_new_tokens,
            "details": True,
            "return_full_text": False,
        }
        if request.prompt.truncate is not None:
            parameters["truncate"] = request.prompt.truncate
        if request.num_top_tokens:
            parameters["top_n_tokens"] = min(request.num_top_tokens, _MAX_TOP_TOKENS)
        if request.grammar is not None:
            parameters["grammar"] = _grammar(request.grammar)
        return Call("/generate_stream", {"inputs": request.prompt.text, "parameters": parameters})

    def reader(self, request: GenerationRequest) -> DeltaReader:
        if isinstance(request.prompt, ChatPrompt):
            return self._chat.reader(request)
        return _Reader()

    def tokenization(self, prompt: Prompt) -> Call:
        if isinstance(prompt, TextPrompt):
            return Call("/tokenize", {"inputs": prompt.text})
        if isinstance(prompt, ChatPrompt):
            body: dict[str, Any] = {"messages": list(prompt.messages)}
            return Call(
                "/chat_tokenize", body | ({"tools": list(prompt.tools)} if prompt.tools else {})
            )
        raise refused("only texts and conversations can be shown as tokens")

    def read_tokens(self, prompt: Prompt, answer: bytes) -> TokenizedPrompt:
        if isinstance(prompt, ChatPrompt):
            fields = read_object(answer)
            text = text_or_none(fields.get("templated_text")) or ""
            return TokenizedPrompt(_prompt_tokens(fields.get("tokenize_response")), text)
        assert isinstance(prompt, TextPrompt)
        try:
            listed = json.loads(answer)
        except (ValueError, RecursionError):
            raise UpstreamMalformed("tokens that are no JSON") from None
        return TokenizedPrompt(_prompt_tokens(listed), prompt.text)

    def _chat_call(self, request: GenerationRequest, seed: int | None) -> Call:
        call = self._chat.generation(request, seed)
        assert isinstance(request.prompt, ChatPrompt)
        if request.grammar is not None and not request.prompt.tools:
            # Not OpenAI's form, which older versions refuse.
            call.body["response_format"] = _grammar(request.grammar)
            call.body.pop("structured_outputs", None)
            call.body.pop("guided_regex", None)
        return call


class _Reader:
    def read(self, event: bytes) -> Delta:
        fields = read_object(event)
        if fields.get("error"):
            raise UpstreamFailed(str(fields["error"])[:300])
        details = inner_object(fields.get("details"))
        finish, counts = None, None
        if fields.get("generated_text") is not None or details:
            reason = text_or_none(details.get("finish_reason"))
            finish = _FINISH_REASONS.get(reason or "", FinishReason.EOS_TOKEN)
            counts = Counts(
                count_or_none(details.get("input_length")),
                count_or_none(details.get("generated_tokens")),
            )
        token = inner_object(fields.get("token"))
        if "text" not in token:
            raise UpstreamMalformed("an event without a token")
        scored = _scored(token)
        top = tuple(_scored(inner_object(item)) for item in inner_list(fields.get("top_tokens")))
        text = "" if scored.special else scored.text
        return Delta(text, (DeltaToken(scored, top),), finish, counts)


def _scored(token: dict[str, Any]) -> ScoredToken:
    return ScoredToken(
        count_or_none(token.get("id")) or 0,
        text_or_none(token.get("text")) or "",
        number_or_none(token.get("logprob")),
        special=token.get("special") is True,
    )


def _prompt_tokens(listed: Any) -> tuple[PromptToken, ...]:
    if not isinstance(listed, list):
        raise UpstreamMalformed("a list of tokens that is none")
    return tuple(
        PromptToken(
            count_or_none(item.get("id")) or 0,
            text_or_none(item.get("text")) or "",
            count_or_none(item.get("start")) or 0,
            count_or_none(item.get("stop")) or 0,
        )
        for item in map(inner_object, listed)
    )


def _sampling(sampling: SamplingParams, seed: int | None) -> dict[str, Any]:
    if sampling.min_p is not None:
        raise refused("`min_p` is not known to the server that runs this model")
    if sampling.presence_penalty or sampling.logit_bias or sampling.min_length is not None:
        raise refused(
            "`presence_penalty`, `logit_bias` and `min_length` are not known to the server that "
            "runs this model"
        )
    optional: dict[str, Any] = {
        "repetition_penalty": sampling.repetition_penalty,
        "frequency_penalty": sampling.frequency_penalty or None,
    }
    if seed is not None:
        optional |= {
            "do_sample": True,
            "seed": seed,
            # It refuses the values that mean "off".
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p if (sampling.top_p or 1.0) < 1.0 else None,
            "typical_p": sampling.typical_p if (sampling.typical_p or 1.0) < 1.0 else None,
        }
    else:
        optional["do_sample"] = False
    return {name: value for name, value in optional.items() if value is not None}


def _grammar(grammar: Grammar) -> dict[str, Any]:
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return {"type": "json", "value": _ANY_OBJECT}
        case GrammarKind.JSON_SCHEMA:
            return {"type": "json", "value": read_schema(grammar.text)}
        case GrammarKind.REGEX:
            return {"type": "regex", "value": grammar.text}
        case GrammarKind.LARK:
            raise refused("the server that runs this model does not take grammars of this kind")
