"""What a page says after a form sent the reader there.

The address carries a key, never the sentence, so nobody can put words into our mouth.
"""

_NOTICES = {
    "signed-out": "You are signed out.",
    "welcome": "Welcome to Gatehouse. Your account is ready.",
    "token-deleted": "The token is deleted. It stopped working at once.",
    "leak-dismissed": "The warning is dismissed.",
    "password-changed": "Your password is changed, and every other session is signed out.",
    "device-approved": "The device is signed in. You can go back to it now.",
    "device-denied": "The sign-in was refused. Nothing was given out.",
    "repository-created": "The repository is ready.",
    "repository-deleted": "The repository is deleted.",
    "settings-saved": "The settings are saved.",
    "access-granted": "You have access now.",
    "access-asked": "Your request was sent to the owner.",
    "request-accepted": "The request is accepted.",
    "request-rejected": "The request is rejected.",
    "request-cancelled": "The decision is taken back; the request is pending again.",
    "user-granted": "Access is granted.",
}


def notice_of(key: str | None) -> str | None:
    return _NOTICES.get(key) if key else None
