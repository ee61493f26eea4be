"""A whole `gatehouse serve` with the demo model on the real engine, and users of two plans."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inference.connections import HttpConnection, http_request
from benchmarks.inference.hub import free_port, running_process, wait_until_it_listens
from gatehouse.core.ids import RepoKind
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.http.context import Services
from gatehouse.identity.actors import Plan, session_actor
from gatehouse.identity.permissions import TokenRole
from gatehouse.identity.plans import PlanName
from gatehouse.migrations.upgrade import upgrade
from gatehouse.server.demo import DEMO_MODEL, prepare_demo
from gatehouse.server.services import build_services

PATH = f"/models/{DEMO_MODEL}"
# Everything else is as plans have it.
_LIMITS = {"requests_per_hour": 10**9, "tokens_per_day": 10**12}
_SERVE = "from gatehouse.cli.main import app; app()"


@dataclass(frozen=True)
class DemoHub:
    """Where it listens, and the tokens of those who may run the demo model."""

    port: int
    pro_token: str
    free_tokens: tuple[str, ...]


@contextmanager
def running_demo_hub(folder: Path, num_free_users: int) -> Iterator[DemoHub]:
    """The hub with its model in memory; ends with the block."""
    settings = Settings(data_dir=folder / "demo")
    settings.data_dir.mkdir()
    pro_token, free_tokens = _fill(settings, num_free_users)
    port = free_port()
    command = [sys.executable, "-c", _SERVE, "serve", "--data-dir", str(settings.data_dir)]
    environment = {"GATEHOUSE_PORT": str(port), "GATEHOUSE_COLD_MODEL_WAIT_SECONDS": "60"}
    with (
        (folder / "demo.log").open("wb") as log,
        running_process(command, environment, log) as process,
    ):
        wait_until_it_listens(process, port)
        with HttpConnection(port) as connection:
            body = {"inputs": "Load.", "options": {"wait_for_model": True}}
            connection.ask(http_request(PATH, body, pro_token))
        yield DemoHub(port, pro_token, free_tokens)


def _fill(settings: Settings, num_free_users: int) -> tuple[str, tuple[str, ...]]:
    database = Database(settings.resolved_database_url())
    upgrade(database)
    services = build_services(settings, database)
    demo = prepare_demo(services)
    owner = session_actor(services.users.by_name(demo.owner.name), "")
    for plan in (PlanName.FREE, PlanName.PRO):
        services.plans.set(plan, _LIMITS, by=owner)
    tokens = tuple(_free_token(services, demo.owner.name, n) for n in range(num_free_users))
    database.dispose()
    return demo.member.token, tokens


def _free_token(services: Services, owner_name: str, number: int) -> str:
    """The token of a new user who is let into the demo's gated model."""
    name = f"free-{number}"
    email = f"{name}@example.com"
    user = services.users.create(name, email, "a password for nobody", plan=Plan.FREE)
    repository = services.repositories.by_name(RepoKind.MODEL, DEMO_MODEL)
    owner = session_actor(services.users.by_name(owner_name), "")
    services.gating.grant(owner, repository, name)
    return services.tokens.create(user.id, "benchmark", TokenRole.READ).value
