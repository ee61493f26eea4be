"""The short code that a person carries from a terminal to the approval page (RFC 8628, 6.1)."""

import secrets

from gatehouse.core.errors import Invalid

# Consonants only: nothing to confuse, no words by accident. 20^8 codes.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_HALF = 4
_MAX_TYPED = 40


class InvalidUserCode(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "`user_code` must be eight letters, like `BCDF-GHJK`, as your client shows it."
        )


def new_user_code() -> str:
    letters = "".join(secrets.choice(ALPHABET) for _ in range(2 * _HALF))
    return f"{letters[:_HALF]}-{letters[_HALF:]}"


def parse_user_code(text: str) -> str:
    """Return the code as kept, `XXXX-XXXX`, from what was typed in any case, spaces and dashes.

    Raises:
        InvalidUserCode: It cannot be one of our codes.
    """
    if len(text) > _MAX_TYPED:
        raise InvalidUserCode
    typed = "".join(c for c in text if c.isalnum())
    letters = typed.upper() if typed.isascii() else ""
    if len(letters) != 2 * _HALF or any(c not in ALPHABET for c in letters):
        raise InvalidUserCode
    return f"{letters[:_HALF]}-{letters[_HALF:]}"
