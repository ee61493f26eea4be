"""Keeps the keys of other servers unreadable to whoever has the database alone.

AES-256-GCM under a key derived from the data folder's secret. What a sealed key was sealed for is
authenticated with it, so a row that is changed to another address cannot make the hub send a key
there.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12
_PURPOSE = b"gatehouse.remote-engine-key"


class SealBroken(ValueError):
    """Sealed with another secret, for something else, or changed since."""


class Seal:
    def __init__(self, secret: bytes) -> None:
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE)
        self._cipher = AESGCM(derive.derive(secret))

    def close(self, text: str, sealed_for: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), sealed_for.encode())

    def open(self, sealed: bytes, sealed_for: str) -> str:
        """Raises `SealBroken`."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, sealed_for.encode()).decode()
        except (InvalidTag, ValueError):
            raise SealBroken("the sealed text cannot be opened") from None
