"""Names that can own repositories, whether of users or of organisations, and the rules for them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gatehouse.core.errors import Conflict, Invalid, NotFound
from gatehouse.core.ids import check_name_part
from gatehouse.db.engine import Database
from gatehouse.identity.reserved_names import RESERVED_NAMES
from gatehouse.identity.tables import AccountRow

MAX_NAME_LENGTH = 42
MAX_FULLNAME_LENGTH = 200


class AccountKind(StrEnum):
    USER = "user"
    ORGANIZATION = "organization"


@dataclass(frozen=True, slots=True)
class Account:
    """A namespace: what stands before the slash in a repository id."""

    id: int
    name: str
    kind: AccountKind
    fullname: str


class InvalidName(Invalid):
    """A name breaks the rules for account names."""


class InvalidFullname(Invalid):
    """A full name is too long or holds control characters."""


class NameTaken(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"`name` is taken: somebody is called `{name}` already.")


class AccountNotFound(NotFound):
    def __init__(self, name: str | int) -> None:
        super().__init__(f"There is no user or organization `{shown(name)}`.")


class Accounts:
    """Finds the owner of a namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_name(self, name: str) -> Account:
        """Find an account, whatever the case of `name`.

        Raises:
            AccountNotFound: There is none.
        """
        with self._database.read() as session:
            row = find_account(session, name)
        if row is None:
            raise AccountNotFound(name)
        return to_account(row)

    def by_id(self, account_id: int) -> Account:
        """Find an account.

        Raises:
            AccountNotFound: There is none.
        """
        with self._database.read() as session:
            row = session.get(AccountRow, account_id)
        if row is None:
            raise AccountNotFound(account_id)
        return to_account(row)


def to_account(row: AccountRow) -> Account:
    return Account(row.id, row.name, AccountKind(row.kind), row.fullname)


def find_account(session: Session, name: str) -> AccountRow | None:
    return session.scalar(select(AccountRow).where(AccountRow.name_folded == folded(name)))


def folded(text: str) -> str:
    """A name or address as it is looked up; empty, which fits nothing, if it cannot be either.

    Databases refuse NUL and lone surrogates, which people can send.
    """
    return text.casefold() if text.isprintable() else ""


def shown(name: str | int) -> str:
    """What somebody asked for, fit for a message."""
    return str(name)[:100].encode("utf-8", "replace").decode()


def claim_name(
    session: Session, name: str, kind: AccountKind, fullname: str, moment: datetime
) -> AccountRow:
    """Add an account row, inside the caller's transaction.

    Raises:
        InvalidName: The name breaks a rule or is reserved.
        NameTaken: A user or an organisation has it, in whatever case.
    """
    check_account_name(name)
    check_fullname(fullname)
    if find_account(session, name) is not None:
        raise NameTaken(name)
    row = AccountRow(
        name=name,
        name_folded=folded(name),
        kind=kind.value,
        fullname=fullname,
        created_at=moment,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        # Two writers on PostgreSQL can both pass the look-up above.
        raise NameTaken(name) from None
    return row


def check_account_name(name: str) -> str:
    """Return `name` if an account may be called so.

    Raises:
        InvalidName: It is malformed, longer than 42 characters, or a path of the server.
    """
    try:
        check_name_part(name, "name")
    except Invalid as error:
        raise InvalidName(error.message) from None
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidName(f"`name` must have at most {MAX_NAME_LENGTH} characters.")
    if name.casefold() in RESERVED_NAMES:
        raise InvalidName(f"`name` cannot be `{name}`: the server uses that word itself.")
    return name


def check_fullname(fullname: str) -> str:
    if len(fullname) > MAX_FULLNAME_LENGTH or not fullname.isprintable():
        raise InvalidFullname(
            f"`fullname` must be at most {MAX_FULLNAME_LENGTH} characters, without line breaks."
        )
    return fullname
