"""OpenVINO without its telemetry; whoever needs it here takes it from this module.

`import openvino` loads its model converter, which imports `openvino_telemetry` and reports that
import to a server. Neither is needed to run a graph: where they cannot be imported, OpenVINO goes
on without. Nothing is sent and nothing is written to the user's home.
"""

import sys
from importlib import import_module
from typing import Any

# An entry of None makes an import fail.
_blocked: dict[str, Any] = dict.fromkeys(("openvino_telemetry", "openvino.tools.ovc"))
for _name, _nothing in _blocked.items():
    sys.modules.setdefault(_name, _nothing)

# Without types of its own, hence `Any` for both.
openvino: Any = import_module("openvino")
ops: Any = import_module("openvino.opset13")
