"""What can go wrong between a request and its answer, besides the repository's own gates."""

from gatehouse.core.errors import Forbidden, GatehouseError, Invalid, Limited, Unavailable
from gatehouse.engines.base import RefusalKind

_GIGABYTE = 10**9


class ModelNotServable(Invalid):
    """The repository holds nothing that an engine here can run; the message says why."""


class ModelTooLarge(Forbidden):
    """The model does not fit into the memory that models may use, even alone."""

    def __init__(self, model: str, needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"The model {model} is too large to be loaded automatically "
            f"({needed_bytes / _GIGABYTE:.2g}GB > {budget_bytes / _GIGABYTE:.2g}GB)."
        )


class ModelLoading(Unavailable):
    """The model is on its way into memory.

    Attributes:
        estimated_time: Seconds until it may be ready, by what loading took before.
    """

    def __init__(self, model: str, estimated_time: float) -> None:
        super().__init__(f"Model {model} is currently loading")
        self.estimated_time = estimated_time


class ModelTimedOut(Unavailable):
    """The model was not ready within the longest time that a caller may ask for."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Model {model} time out")


class HostLost(Unavailable):
    """The process that ran the model has gone; asking again loads the model again.

    The sentence is text-generation-inference's, for a sequence that was not finished.
    """

    def __init__(self) -> None:
        super().__init__("Incomplete generation")


class SupervisorAbsent(Unavailable):
    """This server has no supervisor, or it is not answering."""

    def __init__(self) -> None:
        super().__init__("No model can be run at the moment: the supervisor does not answer.")


class ValidationFailed(Invalid):
    """A parameter or a prompt is refused, in the words of text-generation-inference."""

    error_type = RefusalKind.VALIDATION.value

    def __init__(self, sentence: str) -> None:
        super().__init__(f"Input validation error: {sentence}")


class ToolRefused(Invalid):
    """Tools are asked for that cannot be had, in the words of text-generation-inference."""

    error_type = "tool_error"

    def __init__(self, sentence: str) -> None:
        super().__init__(f"Tool error: {sentence}")


class GenerationRefused(Invalid):
    """The model's host refused the request before it ran.

    Attributes:
        error_type: What clients of text-generation-inference tell such errors apart by.
    """

    def __init__(self, kind: RefusalKind, message: str) -> None:
        super().__init__(message)
        self.error_type = kind.value


class GenerationFailed(GatehouseError):
    """The sequence broke while it was running."""

    error_type = RefusalKind.GENERATION.value


class ModelOverloaded(Limited):
    """Too many requests are waiting for this model."""

    error_type = RefusalKind.OVERLOADED.value

    def __init__(self) -> None:
        super().__init__("Model is overloaded", retry_after=2)


class SuffixNotSupported(Invalid):
    """The model has no format for filling in the middle."""

    error_type = "suffix not supported"

    def __init__(self) -> None:
        super().__init__("Suffix is not supported and can be achieved by preprocessing the prompt.")


class TooManyAtOnce(Limited):
    """The caller's own requests under way are at the plan's limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} requests under way, which is your plan's limit. "
            "Wait for one to end.",
            retry_after=1,
        )
