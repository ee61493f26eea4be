"""The few kinds of error that Gatehouse has.

Rooms subclass a kind beside the code that raises it. Only `http/errors.py` knows which status a
kind becomes.
"""


class GatehouseError(Exception):
    """An error whose message may be shown to the caller.

    Attributes:
        code: The `X-Error-Code` that Hub clients read, or None.
        message: One sentence that says what is wrong, and the cure when we know it.
    """

    code: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(GatehouseError):
    """The request breaks a rule; the message names the field and the rule."""


class Unauthenticated(GatehouseError):
    """The caller has to say who they are first."""


class Forbidden(GatehouseError):
    """The caller is known and may not do this."""


class NotFound(GatehouseError):
    """The thing does not exist, or must look as if it did not."""


class Conflict(GatehouseError):
    """The thing changed, or exists already."""


class PreconditionFailed(GatehouseError):
    """The state the caller named is no longer the current one."""


class TooLarge(GatehouseError):
    """A body or a file is over its limit."""


class TimedOut(GatehouseError):
    """The caller took too long over their part."""


class Limited(GatehouseError):
    """The caller did this too often.

    Attributes:
        retry_after: Whole seconds until it is worth trying again.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(GatehouseError):
    """It may work later; nothing is wrong with the request."""


class NotBuilt(GatehouseError):
    """A route that clients know and this version does not serve."""

    code = "NotImplemented"
