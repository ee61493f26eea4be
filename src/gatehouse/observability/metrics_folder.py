"""The folder in which hub workers share what they count.

Imports no library of metrics: the server's first process must not load one before its workers do.
"""

import os
import re
import shutil
from pathlib import Path

_GAUGE_FILE = re.compile(r"gauge_live\w+_(\d+)\.db")


def clear_metrics(folder: Path) -> None:
    """An empty folder for the workers of a server that is about to start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def forget_dead_workers(folder: Path) -> None:
    """Drop what workers that are gone had under way; what they counted stays."""
    for path in folder.glob("gauge_live*.db"):
        found = _GAUGE_FILE.fullmatch(path.name)
        if found is not None and not _is_running(int(found[1])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
