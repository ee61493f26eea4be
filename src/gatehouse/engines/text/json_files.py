"""Reads the JSON files of a model's folder, whoever wrote them."""

import json
from pathlib import Path
from typing import Any, Final

from gatehouse.engines.base import ModelNotLoadable

MAX_BYTES: Final = 16 << 20


def json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """What a JSON file holds. Numbers may be infinite, as in some published configurations.

    Raises:
        ModelNotLoadable: It is missing, too large, no JSON, or no object.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise ModelNotLoadable(f"`{path.name}` is too large.")
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelNotLoadable(f"The repository has no `{path.name}`.") from error
    except OSError as error:
        raise ModelNotLoadable(f"`{path.name}` cannot be read.") from error
    except (ValueError, RecursionError) as error:
        raise ModelNotLoadable(f"`{path.name}` is not JSON.") from error
    if not isinstance(value, dict):
        raise ModelNotLoadable(f"`{path.name}` is not a JSON object.")
    return value
