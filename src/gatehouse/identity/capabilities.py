"""Signed, short-lived permissions that stand in for a token where clients send none.

LFS transfers and Xet calls carry one. It names what it is for and whose it is; whoever accepts it
asks the gate again, so a right that was taken away is gone at once.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from itsdangerous import BadSignature, URLSafeSerializer

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Unauthenticated


class Purpose(StrEnum):
    LFS_UPLOAD = "lfs-upload"
    LFS_DOWNLOAD = "lfs-download"
    XET_WRITE = "xet-write"
    XET_READ = "xet-read"
    XET_DATA = "xet-data"


class CapabilityRefused(Unauthenticated):
    """Forged, expired, or made for something else."""


@dataclass(frozen=True, slots=True)
class Capability:
    """What a signed text permits.

    Attributes:
        user_id: On whose behalf; None for nobody.
        subject: What exactly, e.g. a SHA-256; empty for the whole repository.
        size: Bytes that may be sent, where that is known.
        expires: Unix seconds.
    """

    purpose: Purpose
    repository_id: int
    user_id: int | None
    subject: str
    size: int
    expires: int


class Capabilities:
    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._clock = clock
        self._serializer = URLSafeSerializer(
            secret, salt="gatehouse.capability", signer_kwargs={"digest_method": sha256}
        )

    def issue(
        self,
        purpose: Purpose,
        repository_id: int,
        user_id: int | None,
        *,
        seconds: int,
        subject: str = "",
        size: int = 0,
    ) -> tuple[str, Capability]:
        expires = int(self._clock.now().timestamp()) + seconds
        capability = Capability(purpose, repository_id, user_id, subject, size, expires)
        fields = [purpose.value, repository_id, user_id, subject, size, expires]
        text = self._serializer.dumps(fields)
        return text if isinstance(text, str) else text.decode(), capability

    def verify(self, text: str, purposes: frozenset[Purpose], *, grace: int = 0) -> Capability:
        """Check a capability.

        Args:
            text: What `issue` returned.
            purposes: What it may be for.
            grace: Seconds after its expiry in which it still counts (Xet clients use a token to the
                last moment and give up at a refusal).

        Raises:
            CapabilityRefused: It is forged, expired, or for another purpose.
        """
        try:
            purpose, repository_id, user_id, subject, size, expires = self._serializer.loads(text)
        except (BadSignature, ValueError, TypeError):
            raise CapabilityRefused("This signed address is not valid.") from None
        if purpose not in purposes:
            raise CapabilityRefused("This signed address is for something else.")
        if self._clock.now().timestamp() > expires + grace:
            raise CapabilityRefused("This signed address has expired: ask for a new one.")
        return Capability(Purpose(purpose), repository_id, user_id, subject, size, expires)
