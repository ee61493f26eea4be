"""The `RateLimit` headers of answers that nothing was taken for: refusals, and what is free."""

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import rate_limit_headers
from gatehouse.api.inference.events import EventStream
from gatehouse.http.client_address import client_address
from gatehouse.http.context import services_of
from gatehouse.identity.actors import ANONYMOUS
from gatehouse.inference.plans.admission import Caller


async def with_allowance(request: Request, answer: Response) -> Response:
    """The same answer, with what is left to the caller; whoever cannot be known is a stranger."""
    # A stream's headers are filled when it starts.
    if "ratelimit" in answer.headers or isinstance(answer, EventStream):
        return answer
    actor = getattr(request.state, "actor", ANONYMOUS)
    caller = Caller(actor, client_address(request), pricing_url="")
    allowance = await run_sync(services_of(request).admission.standing, caller)
    answer.headers.update(rate_limit_headers(allowance))
    return answer
