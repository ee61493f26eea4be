"""Reads a password without ever taking it from the command line, where other users could see it."""

import sys

import typer

from gatehouse.core.errors import Invalid


class NoPassword(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "No password: pass --password-stdin and write it to standard input, "
            "or run the command in a terminal."
        )


def read_password(*, from_stdin: bool) -> str:
    """Take the first line of standard input, or ask twice on a terminal.

    Raises:
        NoPassword: Neither gives one.
    """
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = str(
            typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        )
    else:
        password = ""
    if not password:
        raise NoPassword
    return password
