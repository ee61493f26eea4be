"""The identity services over an empty database, with a clock that tests move."""

import weakref

from argon2 import PasswordHasher
from sqlalchemy import text

from gatehouse.core.clock import FakeClock
from gatehouse.db.base import Base
from gatehouse.db.engine import Database
from gatehouse.identity.accounts import Accounts
from gatehouse.identity.actors import User
from gatehouse.identity.device_flow import DeviceFlow
from gatehouse.identity.organizations import Organizations
from gatehouse.identity.passwords import Passwords
from gatehouse.identity.sessions import Sessions
from gatehouse.identity.tokens import AccessTokens
from gatehouse.identity.users import Users
from gatehouse.observability.audit import AuditTrail

PASSWORD = "correct horse"


def quick_passwords() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class House:
    def __init__(self) -> None:
        self.database = Database("sqlite://")
        weakref.finalize(self, self.database.dispose)
        Base.metadata.create_all(self.database.engine)
        self.clock = FakeClock()
        self.accounts = Accounts(self.database)
        self.users = Users(self.database, self.clock, quick_passwords())
        self.organizations = Organizations(self.database, self.clock)
        self.tokens = AccessTokens(self.database, self.clock)
        self.sessions = Sessions(self.database, self.clock)
        self.device_flow = DeviceFlow(self.database, self.clock)
        self.audit = AuditTrail(self.database)

    def user(self, name: str = "alice") -> User:
        return self.users.create(name, f"{name}@example.com", PASSWORD)

    def actions(self) -> list[str]:
        return [entry.action for entry in reversed(self.audit.recent())]

    def dump(self) -> str:
        """Everything the database holds, as text."""
        lines: list[str] = []
        with self.database.read() as session:
            for table in Base.metadata.sorted_tables:
                rows = session.execute(text(f"SELECT * FROM {table.name}")).all()
                lines += [repr(tuple(row)) for row in rows]
        return "\n".join(lines)
