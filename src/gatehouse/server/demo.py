"""Demo content: three users, an organisation, a gated model and an open one, made once.

The passwords and tokens are random and kept beside the data, readable by its owner alone, so that a
second start can print them again. Never for a hub that strangers reach.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.http.context import Services
from gatehouse.identity.actors import Actor, Plan, User, session_actor
from gatehouse.identity.permissions import TokenRole
from gatehouse.observability.audit import OPERATOR
from gatehouse.repos.commits import AddFile, AddLargeFile, CommitHeader, Operation
from gatehouse.repos.repository import Gate, Repository

DEMO_MODEL = RepoId("demo", "storyteller")
OPEN_MODEL = RepoId("demo", "gap-filler")
_MODELS_FOLDER = Path(__file__).parent / "demo_models"
_CREDENTIALS = "demo_credentials.json"
_MAIN_BRANCH = "main"
_LARGE_ENDINGS = (".safetensors",)


class DemoUser(msgspec.Struct, frozen=True):
    """One demo account, with its secrets in clear."""

    name: str
    about: str
    password: str
    token: str


class Demo(msgspec.Struct, frozen=True):
    """Who is in the demo: `owner` has the gate, `member` was let in, `visitor` was not."""

    owner: DemoUser
    member: DemoUser
    visitor: DemoUser


def prepare_demo(services: Services) -> Demo:
    """Make the demo content, or read back what an earlier start made."""
    path = services.settings.data_dir / _CREDENTIALS
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Demo)
    demo = Demo(
        owner=_add_user(services, "owner", "owns the gated model", Plan.FREE, is_admin=True),
        member=_add_user(services, "member", "was let in, on the PRO plan", Plan.PRO),
        visitor=_add_user(services, "visitor", "was not let in yet", Plan.FREE),
    )
    repository = _publish(services, services.users.by_name(demo.owner.name))
    owner = session_actor(services.users.by_name(demo.owner.name), "")
    services.gating.grant(owner, repository, demo.member.name)
    # It is in memory before anybody has read what to type.
    services.pinned_models.add(repository, _MAIN_BRANCH, by=OPERATOR)
    _write_private(path, msgspec.json.encode(demo))
    return demo


def _add_user(
    services: Services, name: str, about: str, plan: Plan, *, is_admin: bool = False
) -> DemoUser:
    password = secrets.token_urlsafe(9)
    user = services.users.create(
        name, f"{name}@demo.invalid", password, is_admin=is_admin, plan=plan
    )
    role = TokenRole.WRITE if is_admin else TokenRole.READ
    token = services.tokens.create(user.id, "demo", role).value
    return DemoUser(name, about, password, token)


def _publish(services: Services, owner: User) -> Repository:
    """Both models; the gated one is returned."""
    services.organizations.create(DEMO_MODEL.namespace, "The demo's models", owner)
    actor = session_actor(services.users.by_id(owner.id), "")
    _push(services, actor, OPEN_MODEL, Gate.OPEN)
    return _push(services, actor, DEMO_MODEL, Gate.MANUAL)


def _push(services: Services, actor: Actor, repo_id: RepoId, gate: Gate) -> Repository:
    repository = services.repositories.create(actor, RepoKind.MODEL, repo_id, gate=gate)
    header = CommitHeader("Add the demo model")
    operations = _operations(services, repository, _MODELS_FOLDER / repo_id.name)
    services.commits.create(actor, repository, _MAIN_BRANCH, header, operations)
    return repository


def _operations(services: Services, repository: Repository, folder: Path) -> Iterator[Operation]:
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if not path.name.endswith(_LARGE_ENDINGS):
            yield AddFile(path.name, content)
            continue
        with services.blobs.begin() as upload:
            upload.write(content)
            stored = upload.finish()
        services.large_files.link(repository, stored.sha256, stored.size)
        yield AddLargeFile(path.name, stored.sha256, stored.size)


def _write_private(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
