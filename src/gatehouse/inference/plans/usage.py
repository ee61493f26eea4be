"""What was used: one row for each user, token, organisation billed, model and day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Date, bindparam, select, text
from sqlalchemy.orm import aliased

from gatehouse.db.engine import Database
from gatehouse.identity.tables import AccessTokenRow, AccountRow
from gatehouse.inference.tables import UsageRow
from gatehouse.repos.tables import RepositoryRow

_KEYS = ("day", "user_id", "token_id", "organization_id", "repository_id")
_FIGURES = (
    "num_requests",
    "num_cached_requests",
    "num_prompt_tokens",
    "num_generated_tokens",
    "seconds",
)
_ADD = text(
    f"INSERT INTO usage ({', '.join(_KEYS + _FIGURES)}) "  # noqa: S608  (no input in it)
    f"VALUES ({', '.join(f':{name}' for name in _KEYS + _FIGURES)}) "
    f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET "
    + ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in _FIGURES)
).bindparams(bindparam("day", type_=Date))


@dataclass(frozen=True, slots=True, order=True)
class UsageKey:
    """Whose use, of what, and when. Internal ids; 0 for none.

    Attributes:
        day: In UTC.
        organization_id: Who else is billed for it.
        repository_id: The model's.
    """

    day: date
    user_id: int
    token_id: int
    organization_id: int
    repository_id: int


@dataclass(frozen=True, slots=True)
class Figures:
    """How much was used.

    Attributes:
        num_requests: Those that counted, a batch as one for each of its prompts.
        num_cached_requests: Those of them that a kept answer served.
        seconds: From a call's arrival to its end, all calls together.
    """

    num_requests: int = 0
    num_cached_requests: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.num_requests + other.num_requests,
            self.num_cached_requests + other.num_cached_requests,
            self.num_prompt_tokens + other.num_prompt_tokens,
            self.num_generated_tokens + other.num_generated_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One row, with the names that its ids have now; None for what is gone or was never there."""

    day: date
    user: str | None
    token: str | None
    organization: str | None
    model: str | None
    repository_id: int
    figures: Figures


class Usage:
    """Keeps the rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, used: Mapping[UsageKey, Figures]) -> None:
        """Add to the rows; all or nothing."""
        if not used:
            return
        # In one order for all, since PostgreSQL locks row by row.
        values = [
            {name: getattr(key, name) for name in _KEYS}
            | {name: getattr(used[key], name) for name in _FIGURES}
            for key in sorted(used)
        ]
        with self._database.write() as session:
            session.execute(_ADD, values)

    def lines(
        self,
        *,
        user_id: int | None = None,
        repository_id: int | None = None,
        since: date | None = None,
    ) -> list[UsageLine]:
        """The rows that match, the oldest day first."""
        user, owner, organization = aliased(AccountRow), aliased(AccountRow), aliased(AccountRow)
        query = (
            select(
                UsageRow,
                user.name.label("user"),
                AccessTokenRow.name.label("token"),
                organization.name.label("organization"),
                owner.name.label("namespace"),
                RepositoryRow.name.label("model"),
            )
            .outerjoin(user, user.id == UsageRow.user_id)
            .outerjoin(AccessTokenRow, AccessTokenRow.id == UsageRow.token_id)
            .outerjoin(organization, organization.id == UsageRow.organization_id)
            .outerjoin(RepositoryRow, RepositoryRow.id == UsageRow.repository_id)
            .outerjoin(owner, owner.id == RepositoryRow.owner_id)
            .order_by(UsageRow.day, user.name_folded, RepositoryRow.name_folded, UsageRow.token_id)
        )
        if user_id is not None:
            query = query.where(UsageRow.user_id == user_id)
        if repository_id is not None:
            query = query.where(UsageRow.repository_id == repository_id)
        if since is not None:
            query = query.where(UsageRow.day >= since)
        with self._database.read() as session:
            return [
                UsageLine(
                    row.UsageRow.day,
                    row.user,
                    row.token,
                    row.organization,
                    None if row.model is None else f"{row.namespace}/{row.model}",
                    row.UsageRow.repository_id,
                    Figures(**{name: getattr(row.UsageRow, name) for name in _FIGURES}),
                )
                for row in session.execute(query)
            ]
