"""What every command opens: the settings, and the database they name, at the present schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from gatehouse.core.clock import SystemClock
from gatehouse.core.errors import Invalid
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.identity.organizations import Organizations
from gatehouse.identity.passwords import Passwords
from gatehouse.identity.tokens import AccessTokens
from gatehouse.identity.users import Users
from gatehouse.migrations.present import has_present_schema


class UnusableWorkspace(Invalid):
    """The settings, the data folder or the database cannot be used."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A data folder with its database, whether or not a server runs on it."""

    settings: Settings
    database: Database
    users: Users
    organizations: Organizations
    tokens: AccessTokens


def read_settings(data_dir: Path | None) -> Settings:
    """Read the settings; a given folder wins over the environment's.

    Raises:
        UnusableWorkspace: A setting breaks its rule.
    """
    try:
        return Settings() if data_dir is None else Settings(data_dir=data_dir)
    except ValidationError as error:
        first = error.errors()[0]
        name = "GATEHOUSE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise UnusableWorkspace(f"The setting {name} is wrong: {first['msg']}.") from None


def make_data_dir(path: Path) -> None:
    """Make the folder, for this user's eyes only, unless it is there.

    Raises:
        UnusableWorkspace: It cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableWorkspace(
            f"The data folder {path} cannot be used: {error.strerror}."
        ) from None


def open_database(settings: Settings) -> Database:
    """Open the database and bring it to the present schema.

    Raises:
        UnusableWorkspace: It cannot be reached or is no database.
        DatabaseTooNew: A newer Gatehouse made it.
    """
    try:
        database = Database(settings.resolved_database_url())
    except ArgumentError:
        # Not quoted: the address may hold a password.
        raise UnusableWorkspace(
            "The setting GATEHOUSE_DATABASE_URL is no database address that SQLAlchemy knows."
        ) from None
    except ModuleNotFoundError as error:
        raise UnusableWorkspace(
            f"This database needs the Python package `{error.name}`, which is not installed."
        ) from None
    try:
        if not has_present_schema(database):
            # Brings Alembic along, which few commands need.
            import_module("gatehouse.migrations.upgrade").upgrade(database)
    except DatabaseError as error:
        database.dispose()
        raise UnusableWorkspace(f"The database cannot be used: {_reason(error)}.") from None
    return database


@contextmanager
def open_workspace(data_dir: Path | None) -> Iterator[Workspace]:
    """Open the data folder, making or upgrading it where needed.

    Raises:
        UnusableWorkspace: The settings, the folder or the database cannot be used.
        DatabaseTooNew: A newer Gatehouse made the database.
    """
    settings = read_settings(data_dir)
    make_data_dir(settings.data_dir)
    database = open_database(settings)
    clock = SystemClock()
    try:
        yield Workspace(
            settings=settings,
            database=database,
            users=Users(database, clock, Passwords()),
            organizations=Organizations(database, clock),
            tokens=AccessTokens(database, clock),
        )
    except OperationalError as error:
        raise UnusableWorkspace(f"The database failed: {_reason(error)}.") from None
    finally:
        database.dispose()


def _reason(error: DatabaseError) -> str:
    return str(error.orig).strip().partition("\n")[0].rstrip(".")
