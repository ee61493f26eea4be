"""What the supervisor's side of a host's socket makes of what hosts say."""

import socket
from dataclasses import dataclass, field

import anyio
import pytest

from gatehouse.engines.messages import HostFailed, HostReady
from gatehouse.inference.lifecycle.host_processes import ForkedHosts, HostEnded

pytestmark = pytest.mark.anyio


@dataclass
class Heard:
    failures: list[tuple[int, HostFailed]] = field(default_factory=list)

    def on_started(self, host_id: int, pid: int) -> None:
        raise AssertionError(host_id, pid)

    def on_ready(self, host_id: int, ready: HostReady) -> None:
        raise AssertionError(host_id, ready)

    def on_failed(self, host_id: int, failed: HostFailed) -> None:
        self.failures.append((host_id, failed))

    def on_ended(self, ended: HostEnded) -> None:
        raise AssertionError(ended)


@pytest.mark.parametrize("packet", [b"\xff", b"\x81\xa4type\xa5ready", b"\x93" + b"a" * 65536])
async def test_host_that_talks_nonsense_only_fails_itself(packet: bytes) -> None:
    heard = Heard()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    async with anyio.create_task_group() as tasks:
        hosts = ForkedHosts(tasks, heard, {7: ours})
        theirs.send(packet)
        theirs.close()
        await hosts._listen_to_host(7, ours)
    ours.close()
    assert [host_id for host_id, _ in heard.failures] == [7]
    assert "unreadable" in heard.failures[0][1].message
