"""Which of the repositories that hold an object an actor can read: they may name it elsewhere too.

An object that everybody has is held by more repositories than can be asked about one by one, so
the actor's own come first.
"""

from sqlalchemy import ColumnElement, case, select
from sqlalchemy.orm import InstrumentedAttribute

from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.access import Access
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.tables import RepositoryRow

_MAX_ASKED = 50


class Holders:
    def __init__(self, database: Database, repositories: Repositories, access: Access) -> None:
        self._database = database
        self._repositories = repositories
        self._access = access

    def is_readable(
        self,
        actor: Actor,
        repository_id: InstrumentedAttribute[int],
        holds: ColumnElement[bool],
    ) -> bool:
        """Whether the actor can read one of the repositories that a table of holders names.

        Args:
            actor: Who wants to name the object.
            repository_id: The column of that table which names the holder.
            holds: The condition on that table that picks the object.
        """
        is_own = RepositoryRow.owner_id.in_(_accounts(actor))
        query = (
            select(repository_id)
            .join(RepositoryRow, RepositoryRow.id == repository_id)
            .where(holds)
            .order_by(case((is_own, 0), else_=1), RepositoryRow.visibility.desc(), repository_id)
            .limit(_MAX_ASKED)
        )
        with self._database.read() as session:
            holders = list(session.scalars(query))
        found = (self._repositories.by_id(holder) for holder in holders)
        return any(
            holder is not None and self._access.allows(actor, holder, Permission.REPO_CONTENT)
            for holder in found
        )


def _accounts(actor: Actor) -> list[int]:
    if actor.user is None:
        return []
    return [actor.user.id, *(member.organization_id for member in actor.user.memberships)]
