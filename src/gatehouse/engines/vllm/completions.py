"""vLLM's completions: a sequence to the body of a call, and an event to tokens. No I/O.

Ids go in and ids come out, so what a token's text is and where a sequence ends is decided here. See
https://docs.vllm.ai/en/latest/serving/openai_compatible_server/, "Completions API".
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from llguidance import regex_to_lark

from gatehouse.engines.base import Grammar, GrammarKind, SamplingParams
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.remote.base import UpstreamFailed, UpstreamMalformed
from gatehouse.engines.remote.json_values import (
    inner_list,
    inner_object,
    number_or_none,
    read_object,
)
from gatehouse.engines.text.prompts import refuse_invalid
from gatehouse.engines.text.sequence import Sequence
from gatehouse.engines.vllm.program import MODEL_NAME

# Its seed is a signed number of 64 bits, ours is not signed.
_SEED_MASK = 2**63 - 1
# It takes no zero, which means the same.
_LEAST_TOP_P = 1e-9
# Otherwise it may go on without end, and small models love it. The pattern that our own grammars
# have is not known to the llguidance of every vLLM.
_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_TOKEN = re.compile(r"token_id:(\d{1,9})")


@dataclass(frozen=True, slots=True)
class ReadToken:
    """A token of the answer, or of the prompt where that is scored.

    Attributes:
        logprob: None for a prompt's first.
        top: Ids and log-probabilities of the likeliest at its place, best first.
    """

    id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """What one event says."""

    tokens: tuple[ReadToken, ...]
    has_ended: bool


def refuse_unknown(sampling: SamplingParams) -> None:
    """Raises `RequestRefused` for rules that vLLM does not have."""
    if sampling.typical_p is not None and sampling.typical_p < 1:
        raise refuse_invalid("`typical_p` is not known to vLLM, which runs this model")


def completion(sequence: Sequence, defaults: GenerationDefaults) -> dict[str, Any]:
    """The body of the call that streams a sequence's tokens.

    The sequence's end tokens and `defaults` are all that holds; vLLM is to read nothing of its own
    into it.
    """
    request = sequence.request
    ends = set(defaults.eos_token_ids) | sequence.ends.keys()
    body: dict[str, Any] = {
        "model": MODEL_NAME,
        "prompt": sequence.prompt_ids,
        "stream": True,
        "max_tokens": sequence.max_new_tokens,
        "logprobs": request.num_top_tokens,
        "return_tokens_as_token_ids": True,
        "ignore_eos": True,
        "stop_token_ids": sorted(end for end in ends if end < defaults.vocabulary_size),
        "priority": request.priority,
    }
    if request.prompt_details:
        body["echo"] = True
    if request.grammar is not None:
        body["structured_outputs"] = _structure(request.grammar)
    if request.reuse_scope:
        body["cache_salt"] = hashlib.sha256(request.reuse_scope.encode()).hexdigest()
    body |= _lengths(sequence, defaults)
    body |= _rules(request.sampling, defaults)
    return body | _chance(request.sampling, defaults, sequence.seed)


def read_event(event: bytes, num_top: int) -> ReadEvent:
    """The tokens of an event, each with `num_top` of the likeliest.

    Raises:
        UpstreamMalformed: It is no such event.
        UpstreamFailed: It is an error.
    """
    fields = read_object(event)
    if fields.get("error"):
        raise UpstreamFailed(str(inner_object(fields["error"]).get("message"))[:300])
    choices = inner_list(fields.get("choices"))
    choice = inner_object(choices[0]) if choices else {}
    scores = inner_object(choice.get("logprobs"))
    names = inner_list(scores.get("tokens"))
    logprobs = inner_list(scores.get("token_logprobs"))
    tops = inner_list(scores.get("top_logprobs")) or [None] * len(names)
    if not len(names) == len(logprobs) == len(tops):
        raise UpstreamMalformed("tokens and log-probabilities of different numbers")
    return ReadEvent(
        tuple(
            ReadToken(_id(name), number_or_none(logprob), _likeliest(inner_object(top), num_top))
            for name, logprob, top in zip(names, logprobs, tops, strict=True)
        ),
        has_ended=choice.get("finish_reason") is not None,
    )


def _lengths(sequence: Sequence, defaults: GenerationDefaults) -> dict[str, Any]:
    """As `generate` counts them: a `min_length` counts the prompt too, and gives way."""
    wanted = sequence.request.sampling.min_length
    least = (defaults.min_length if wanted is None else wanted) - len(sequence.prompt_ids)
    if defaults.min_new_tokens is not None:
        least = defaults.min_new_tokens
    least = min(least, sequence.max_new_tokens)
    return {"min_tokens": least} if least > 0 else {}


def _rules(sampling: SamplingParams, defaults: GenerationDefaults) -> dict[str, Any]:
    penalty = sampling.repetition_penalty
    body: dict[str, Any] = {
        "repetition_penalty": defaults.repetition_penalty if penalty is None else penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    if sampling.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias}
    return body


def _chance(
    sampling: SamplingParams, defaults: GenerationDefaults, seed: int | None
) -> dict[str, Any]:
    if seed is None:
        return {"temperature": 0.0}
    values = {
        name: getattr(defaults, name)
        if getattr(sampling, name) is None
        else getattr(sampling, name)
        for name in ("temperature", "top_k", "top_p", "min_p")
    }
    values["top_p"] = max(values["top_p"], _LEAST_TOP_P)
    return values | {"seed": seed & _SEED_MASK}


def _structure(grammar: Grammar) -> dict[str, str]:
    """As our own grammars are compiled, but for white space in JSON."""
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return {"grammar": _json_text({"type": "object"})}
        case GrammarKind.JSON_SCHEMA:
            schema = json.loads(grammar.text)
            return {"grammar": _json_text(schema if isinstance(schema, dict) else {})}
        case GrammarKind.REGEX:
            return {"grammar": f"start: /{regex_to_lark(grammar.text, use_ascii='d')}/"}
        case GrammarKind.LARK:
            return {"grammar": grammar.text}


def _json_text(schema: dict[str, Any]) -> str:
    guidance = _SPACES | inner_object(schema.get("x-guidance"))
    return f"start: %json {json.dumps(schema | {'x-guidance': guidance})}"


def _likeliest(top: dict[str, Any], num_top: int) -> tuple[tuple[int, float], ...]:
    """The token that was chosen is among them, whether or not it belongs there."""
    scored = [(_id(name), number_or_none(logprob) or 0.0) for name, logprob in top.items()]
    return tuple(sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:num_top])


def _id(name: Any) -> int:
    found = _TOKEN.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise UpstreamMalformed("a token without its id")
    return int(found[1])
