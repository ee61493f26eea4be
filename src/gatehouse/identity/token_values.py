"""What a secret value looks like: a prefix, 30 random characters, a checksum of both.

The prefix is what clients demand; the checksum tells a mistyped value, and a scanner's false alarm,
from a real one without the database. Knows no rows.
"""

import hashlib
import re
import secrets
import string
import zlib

ACCESS_PREFIX = "hf_"
REFRESH_PREFIX = "hfr_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_NUM_RANDOM = 30
_NUM_CHECKSUM = 6

# Finds candidates in text of any origin; `looks_like_token` then decides by the checksum.
TOKEN_PATTERN = re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{36}(?![A-Za-z0-9])", re.ASCII)
TOKEN_BYTES_PATTERN = re.compile(TOKEN_PATTERN.pattern.encode())


def new_value(prefix: str = ACCESS_PREFIX) -> str:
    """Make a value with 178 random bits."""
    text = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_NUM_RANDOM))
    return text + checksum(text)


def checksum(text: str) -> str:
    """The CRC-32 of ASCII `text` as six digits of base 62, most significant first."""
    number = zlib.crc32(text.encode("ascii"))
    digits = []
    for _ in range(_NUM_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def looks_like_token(text: str) -> bool:
    """Whether all of `text` is an access token by shape and checksum; it may be dead or unknown."""
    if TOKEN_PATTERN.fullmatch(text) is None:
        return False
    return text.endswith(checksum(text[:-_NUM_CHECKSUM]))


def digest(value: str) -> str:
    """What is kept of a random secret: its SHA-256 in hex. It needs no salt and no slow hash."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
