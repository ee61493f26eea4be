"""Conversations: read from OpenAI's shapes, run on any chat model, answered in those shapes."""

from gatehouse.inference.chat.completions import ChatCompletions
from gatehouse.inference.chat.jobs import ChatJob, parse_chat

__all__ = ["ChatCompletions", "ChatJob", "parse_chat"]
