"""Passwords as argon2id hashes. Knows nothing of users or rows."""

import threading
import unicodedata
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gatehouse.core.errors import Invalid

MIN_LENGTH = 8
MAX_LENGTH = 1024
# One hash takes 64 MiB and a core: a crowd that signs in queues instead of exhausting the machine.
_NUM_HASHED_AT_ONCE = 4


class InvalidPassword(Invalid):
    def __init__(self) -> None:
        super().__init__(f"`password` must be {MIN_LENGTH} to {MAX_LENGTH} characters long.")


class Passwords:
    """Hashes and verifies, with argon2-cffi's defaults (RFC 9106, low memory) unless handed in."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = threading.BoundedSemaphore(_NUM_HASHED_AT_ONCE)

    @cached_property
    def _nobodys_hash(self) -> str:
        return self._hasher.hash(b"nobody has this password")

    def hash(self, password: str) -> str:
        """Return the hash to keep.

        Raises:
            InvalidPassword: Too short or too long.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise InvalidPassword
        with self._turn:
            return self._hasher.hash(_to_bytes(password))

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether `password` made `password_hash`.

        Without a hash (no such user) it takes as long as with one, so that the time of the answer
        does not tell which names exist.
        """
        if len(password) > MAX_LENGTH:
            password, password_hash = "", None
        with self._turn:
            try:
                self._hasher.verify(password_hash or self._nobodys_hash, _to_bytes(password))
            except (VerificationError, InvalidHashError):
                return False
        return password_hash is not None

    def needs_rehash(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)


def _to_bytes(password: str) -> bytes:
    # Keyboards differ in how they compose an accent (RFC 8265, 4.2.2).
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
