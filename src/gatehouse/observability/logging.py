"""Log lines. No token, password or query string is ever handed to the logger."""

import logging
import os
import sys
from typing import Any

import structlog

logger: Any = structlog.get_logger("gatehouse")


class LineLogger:
    """Writes lines to a descriptor; a full disk or a closed terminal must not stop a request."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, message: str) -> None:
        try:
            os.write(self._descriptor, f"{message}\n".encode(errors="backslashreplace"))
        except OSError:
            return

    debug = info = warning = error = critical = msg


def configure_logging(*, as_json: bool) -> None:
    """Send log lines to standard error, as text for people or as JSON for machines."""
    descriptor = sys.stderr.fileno()
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows local variables, which may be tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: LineLogger(descriptor),
        cache_logger_on_first_use=True,
    )
