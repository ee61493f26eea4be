"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder that holds everything Gatehouse keeps. "
        "Default: GATEHOUSE_DATA_DIR, or `data` in the current folder.",
        show_default=False,
    ),
]
