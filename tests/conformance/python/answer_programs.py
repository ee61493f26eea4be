"""Runs programs in one process of a client, one after the other: its imports take longest.

Each line of input is JSON: an `opening`, which is run once, a `program` that finds the opening's
names, and what it is `given`. Each line of output is what the program returned, or its error.
"""

import json
import sys
from typing import Any

_NAMES: dict[str, dict[str, Any]] = {}


def _run(opening: str, program: str, given: dict[str, Any]) -> Any:
    if opening not in _NAMES:
        names: dict[str, Any] = {}
        exec(opening, names)
        _NAMES[opening] = names
    body = "\n".join(f"    {line}" for line in program.splitlines())
    exec(f"def program({', '.join(given)}):\n{body}", _NAMES[opening])
    return _NAMES[opening]["program"](**given)


def _plain(value: Any) -> Any:
    """What JSON does not know: pydantic's models, and objects with attributes."""
    return value.model_dump() if hasattr(value, "model_dump") else vars(value)


def _described(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    return {
        "names": [kind.__name__ for kind in type(error).__mro__],
        "text": str(error),
        "status": getattr(response, "status_code", None),
        "headers": dict(getattr(response, "headers", None) or {}),
    }


def main() -> None:
    # What clients print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            outcome = {"value": _run(**asked)}
        except Exception as error:  # noqa: BLE001 - it is the test that judges it
            outcome = {"error": _described(error)}
        print(json.dumps(outcome, default=_plain), file=answers, flush=True)


main()
