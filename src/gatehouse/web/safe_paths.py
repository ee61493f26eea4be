"""Where a form may send the reader afterwards: a path of this hub and nothing else."""

import re

# `//host` and `/\host` lead to another host; browsers drop control characters before they look.
_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\]{0,1000}")


def safe_path(text: str, default: str = "/") -> str:
    return text if _OWN_PATH.fullmatch(text) else default
