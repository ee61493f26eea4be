"""OpenAI's newer surface for conversations, `/v1/responses`, over the same jobs as chat."""

from gatehouse.inference.responses.jobs import ResponseJob, parse_response
from gatehouse.inference.responses.runs import run_response, stream_response

__all__ = ["ResponseJob", "parse_response", "run_response", "stream_response"]
