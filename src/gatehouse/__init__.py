"""Gatehouse: your own model hub, with gates, tokens and inference."""

__version__ = "0.1.0"
