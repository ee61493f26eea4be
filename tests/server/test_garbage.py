"""What a worker does about garbage, in a process of its own: it would outlive the test."""

import subprocess
import sys


def test_what_was_built_before_is_left_out_and_cycles_still_go() -> None:
    program = """
import gc, weakref
from gatehouse.server.garbage import spare_what_stays

class Node:
    pass

stays = [Node() for _ in range(1000)]
spare_what_stays()
assert gc.get_freeze_count() > 1000
assert gc.isenabled()
node = Node()
node.itself = node
gone = weakref.ref(node)
del node
junk = [[] for _ in range(2 * gc.get_threshold()[0])]
assert gone() is None
"""
    subprocess.run([sys.executable, "-c", program], check=True)
