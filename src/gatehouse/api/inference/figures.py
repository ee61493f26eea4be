"""The headers that say what an unstreamed answer took, the same on every surface."""

from gatehouse.api.inference.calls import ModelCall

_MILLISECONDS = 1000


def figures_of(call: ModelCall, num_characters: int | None = None) -> dict[str, str]:
    """From the call's meter: times in whole milliseconds, `x-compute-time` in seconds.

    Args:
        call: The call, at its end.
        num_characters: Of the input, where it is text.
    """
    meter = call.meter
    total, validation, queue = meter.total_seconds, meter.validation_seconds, meter.queue_seconds
    inference = max(0.0, total - validation - queue)
    headers = {
        "x-compute-type": meter.device,
        "x-compute-time": f"{total:.3f}",
        "x-total-time": _rounded(total),
        "x-validation-time": _rounded(validation),
        "x-queue-time": _rounded(queue),
        "x-inference-time": _rounded(inference),
        "x-time-per-token": _rounded(inference / max(1, meter.num_generated_tokens)),
        "x-prompt-tokens": str(meter.num_prompt_tokens),
        "x-generated-tokens": str(meter.num_generated_tokens),
    }
    if num_characters is not None:
        headers["x-compute-characters"] = str(num_characters)
    return headers


def _rounded(seconds: float) -> str:
    return str(round(seconds * _MILLISECONDS))
