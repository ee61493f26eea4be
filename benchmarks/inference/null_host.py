"""A model host with an engine that computes nothing: a process of its own, as every host is.

Run as `python -m benchmarks.inference.null_host FOLDER SOCKET`; says `ready` when it listens, and
ends when its standard input does.
"""

import os
import sys
from pathlib import Path

from benchmarks.inference.null_engine import NullEngine
from gatehouse.engines.host import Host, listen


def main() -> None:
    folder, socket_path = sys.argv[1:]
    engine = NullEngine.load(Path(folder))
    Host(engine, listen(socket_path), on_crash=lambda: os._exit(70)).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
