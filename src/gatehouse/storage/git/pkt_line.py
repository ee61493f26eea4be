"""Git's pkt-lines, and the list of commands that opens a push. Pure functions over bytes.

Specification: git's `gitprotocol-common` and `gitprotocol-pack` manual pages.
"""

from dataclasses import dataclass

from gatehouse.core.ids import is_oid
from gatehouse.storage.git.errors import InvalidWire
from gatehouse.storage.git.records import RefUpdate

FLUSH = b"0000"
MAX_PAYLOAD_BYTES = 65516
MAX_COMMANDS = 1000

_ABSENT_OID = "0" * 40
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class CommandList:
    """What the client of `git-receive-pack` asks for.

    Attributes:
        updates: In the client's order; at most `MAX_COMMANDS`, each ref once.
        capabilities: As the client wrote them, such as `report-status` or `agent=git/2.39`.
        num_bytes: Where the commands end and the pack begins.
    """

    updates: tuple[RefUpdate, ...]
    capabilities: frozenset[str]
    num_bytes: int


def encode(payload: bytes) -> bytes:
    """Wrap `payload` as one pkt-line.

    Raises:
        InvalidWire: It is longer than `MAX_PAYLOAD_BYTES`.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidWire(f"A pkt-line holds {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}.")
    return b"%04x" % (len(payload) + 4) + payload


def decode(data: bytes, offset: int = 0) -> tuple[bytes | None, int]:
    """Read the pkt-line at `offset`; return its payload and where the next one starts.

    The payload is None for a flush packet.

    Raises:
        InvalidWire: The line is cut short, has no length, or is a delimiter of protocol 2.
    """
    head = data[offset : offset + 4]
    if len(head) < 4 or not _HEX_DIGITS.issuperset(head):
        raise InvalidWire("A pkt-line must start with its length as four hex digits.")
    length = int(head, 16)
    if length == 0:
        return None, offset + 4
    if not 4 <= length <= MAX_PAYLOAD_BYTES + 4:
        raise InvalidWire(f"A pkt-line cannot have the length {length}.")
    end = offset + length
    if end > len(data):
        raise InvalidWire("A pkt-line is cut short.")
    return data[offset + 4 : end], end


def parse_commands(data: bytes) -> CommandList:
    """Read the commands that open the body of a `git-receive-pack` request.

    `data` is the beginning of the body, with at least its first flush packet; the rest is ignored.

    Raises:
        InvalidWire: It is not a command list, or has too many commands.
    """
    updates: dict[str, RefUpdate] = {}
    capabilities: frozenset[str] = frozenset()
    offset = 0
    while True:
        payload, offset = decode(data, offset)
        if payload is None:
            return CommandList(tuple(updates.values()), capabilities, offset)
        if payload.startswith(b"shallow ") and not updates:
            continue
        line, nul, rest = payload.partition(b"\0")
        if nul:
            if updates:
                raise InvalidWire("Only the first command of a push may carry capabilities.")
            capabilities = frozenset(rest.decode("utf-8", "replace").split())
        update = _parse_command(line.removesuffix(b"\n"))
        if update.ref in updates:
            raise InvalidWire(f"The push names {update.ref[:200]!r} twice.")
        updates[update.ref] = update
        if len(updates) > MAX_COMMANDS:
            raise InvalidWire(f"A push may change {MAX_COMMANDS} refs at most.")


def _parse_command(line: bytes) -> RefUpdate:
    try:
        return parse_update(line.decode())
    except UnicodeDecodeError:
        raise InvalidWire("The ref names of a push must be UTF-8.") from None


def parse_update(line: str) -> RefUpdate:
    """Read `OLD NEW REF`, as commands and hooks write it, without its line's end.

    Raises:
        InvalidWire: It is something else.
    """
    old_oid, _, rest = line.partition(" ")
    new_oid, _, ref = rest.partition(" ")
    if not is_oid(old_oid) or not is_oid(new_oid) or not ref:
        raise InvalidWire("A push must name an old object, a new object and a ref.")
    return RefUpdate(ref, _present(old_oid), _present(new_oid))


def _present(oid: str) -> str | None:
    return None if oid == _ABSENT_OID else oid
