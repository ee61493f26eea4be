"""Generated sequences in the shapes that clients of text-generation-inference read."""

from typing import Any

from gatehouse.engines.base import GeneratedToken, ScoredToken
from gatehouse.inference.sequences import GeneratedSequence


def whole_details(sequence: GeneratedSequence) -> dict[str, Any]:
    """`details` of an answer that is not streamed."""
    assert sequence.start is not None
    assert sequence.finish is not None
    details: dict[str, Any] = {
        "finish_reason": sequence.finish.reason,
        "generated_tokens": sequence.finish.num_generated_tokens,
        "seed": sequence.start.seed,
        "prefill": [
            {"id": token.id, "text": token.text, "logprob": token.logprob}
            for token in sequence.start.prompt_tokens
        ],
        "tokens": [generated_token(generated) for generated in sequence.tokens],
    }
    if any(generated.top for generated in sequence.tokens):
        details["top_tokens"] = [
            [_scored(token) for token in generated.top] for generated in sequence.tokens
        ]
    return details


def token_event(index: int, generated: GeneratedToken) -> dict[str, Any]:
    """One event of a stream, counted from 1; what only the last one has is null."""
    event: dict[str, Any] = {"index": index, "token": generated_token(generated)}
    if generated.top:
        event["top_tokens"] = [_scored(token) for token in generated.top]
    return event | {"generated_text": None, "details": None}


def stream_details(sequence: GeneratedSequence) -> dict[str, Any]:
    """`details` of the last event."""
    assert sequence.finish is not None
    return {
        "finish_reason": sequence.finish.reason,
        "generated_tokens": sequence.finish.num_generated_tokens,
        "seed": sequence.start.seed if sequence.start else None,
        "input_length": sequence.num_prompt_tokens,
    }


def generated_token(generated: GeneratedToken) -> dict[str, Any]:
    """Texts of the tokens that are not special join to the continuation.

    A special token that releases held text stands for that text: it would not be shown otherwise.
    """
    token, piece = generated.token, generated.piece
    if token.special and piece in ("", token.text):
        return _scored(token)
    return _scored(token) | {"text": piece, "special": False}


def _scored(token: ScoredToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "text": token.text,
        "logprob": token.logprob,
        "special": token.special,
    }
