"""The commands as a person types them: the whole program, its exit code and both outputs."""

import io
import os
import stat
import subprocess
import sys
import weakref
from pathlib import Path
from typing import NamedTuple

import pytest
from factories import Hub

from gatehouse.cli.main import app
from gatehouse.core.clock import SystemClock
from gatehouse.db.engine import Database
from gatehouse.identity.actors import OrganizationRole, Plan
from gatehouse.identity.organizations import Organizations
from gatehouse.identity.passwords import Passwords
from gatehouse.identity.permissions import Permission
from gatehouse.identity.token_values import looks_like_token
from gatehouse.identity.tokens import AccessTokens
from gatehouse.identity.users import Users, WrongPassword
from gatehouse.observability.audit import AuditTrail


class Outcome(NamedTuple):
    code: object
    output: str
    errors: str


class Shell:
    """Runs `gatehouse` with one data folder."""

    def __init__(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.data_dir = data_dir
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str, stdin: str = "") -> Outcome:
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as caught:
            app([*arguments, "--data-dir", str(self.data_dir)])
        captured = self._capsys.readouterr()
        return Outcome(caught.value.code, captured.out, captured.err)

    def add_user(self, name: str = "alice") -> Outcome:
        email = f"{name}@example.com"
        arguments = ("user", "create", name, "--email", email, "--password-stdin")
        return self.run(*arguments, stdin="correct horse\n")

    def database(self) -> Database:
        database = Database(f"sqlite:///{self.data_dir / 'gatehouse.db'}")
        weakref.finalize(self, database.dispose)
        return database

    def users(self) -> Users:
        return Users(self.database(), SystemClock(), Passwords())


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    return Shell(tmp_path / "new" / "data", monkeypatch, capsys)


def test_a_created_user_can_sign_in(shell: Shell) -> None:
    outcome = shell.run(
        *("user", "create", "alice", "--email", "a@b.c", "--password-stdin", "--admin"),
        *("--plan", "pro", "--fullname", "Alice A."),
        stdin="correct horse\r\nsecond line\n",
    )
    assert outcome == (0, "", "Created user alice on the pro plan.\n")
    alice = shell.users().authenticate("alice", "correct horse")
    assert (alice.plan, alice.is_admin, alice.fullname) == (Plan.PRO, True, "Alice A.")


def test_the_data_folder_is_made_for_its_owner_only(shell: Shell) -> None:
    shell.add_user()
    assert stat.S_IMODE(shell.data_dir.stat().st_mode) == 0o700


def test_a_token_stands_alone_on_standard_output(shell: Shell) -> None:
    shell.add_user()
    outcome = shell.run("token", "create", "--user", "alice", "--name", "ci", "--role", "write")
    value = outcome.output.removesuffix("\n")
    assert outcome.code == 0
    assert looks_like_token(value)
    assert value not in outcome.errors
    actor = AccessTokens(shell.database(), SystemClock()).authenticate(value)
    assert actor.user is not None
    assert actor.user.name == "alice"
    assert actor.may(Permission.REPO_WRITE)


def test_a_token_reads_only_unless_told_otherwise(shell: Shell) -> None:
    shell.add_user()
    value = shell.run("token", "create", "--user", "alice", "--name", "ci").output.strip()
    actor = AccessTokens(shell.database(), SystemClock()).authenticate(value)
    assert not actor.may(Permission.REPO_WRITE)


def test_plan_and_password_are_changed(shell: Shell) -> None:
    shell.add_user()
    assert shell.run("user", "plan", "alice", "enterprise").code == 0
    changed = shell.run("user", "password", "alice", "--password-stdin", stdin="another horse")
    assert changed.code == 0
    assert shell.users().authenticate("alice", "another horse").plan is Plan.ENTERPRISE
    with pytest.raises(WrongPassword):
        shell.users().authenticate("alice", "correct horse")


def test_organizations_and_members(shell: Shell) -> None:
    shell.add_user("alice")
    shell.add_user("bob")
    assert shell.run("org", "create", "meta-llama", "--owner", "alice").code == 0
    added = shell.run("org", "add", "meta-llama", "--user", "bob", "--role", "write")
    assert added.code == 0
    organizations = Organizations(shell.database(), SystemClock())
    members = organizations.by_name("meta-llama").members
    assert {member.name: member.role for member in members} == {
        "alice": OrganizationRole.ADMIN,
        "bob": OrganizationRole.WRITE,
    }
    assert shell.run("org", "remove", "meta-llama", "--user", "bob").code == 0
    assert len(organizations.by_name("meta-llama").members) == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        ("user create bob --email b@c.d --password-stdin", "short\n", "`password` must be"),
        ("user create bob --email b@c.d --password-stdin", "", "No password"),
        ("user create bob --email b@c.d", "not a terminal\n", "No password"),
        ("user create bob --email nope --password-stdin", "correct horse\n", "`email` must"),
        ("user create b/b --email b@c.d --password-stdin", "correct horse\n", "`name` must"),
        ("user create api --email b@c.d --password-stdin", "correct horse\n", "`name` cannot"),
        ("user create Alice --email b@c.d --password-stdin", "correct horse\n", "`name` is taken"),
        ("user plan nobody pro", "", "no user `nobody`"),
        ("user password nobody --password-stdin", "correct horse\n", "no user `nobody`"),
        ("token create --user nobody --name n", "", "no user `nobody`"),
        ("token create --user alice --name ci", "", "`name` is taken"),
        ("org create acme --owner nobody", "", "no user `nobody`"),
        ("org create alice --owner alice", "", "`name` is taken"),
        ("org add acme --user alice", "", "no organization `acme`"),
    ],
)
def test_bad_input_gets_one_sentence_and_code_2(
    shell: Shell, arguments: str, stdin: str, sentence: str
) -> None:
    shell.add_user("alice")
    shell.run("token", "create", "--user", "alice", "--name", "ci")
    num_entries = len(AuditTrail(shell.database()).recent())
    outcome = shell.run(*arguments.split(), stdin=stdin)
    assert (outcome.code, outcome.output) == (2, "")
    assert outcome.errors.startswith("Error: ")
    assert sentence in outcome.errors
    assert outcome.errors.count("\n") == 1
    assert len(AuditTrail(shell.database()).recent()) == num_entries


@pytest.mark.parametrize(
    "arguments", ["user plan alice gold", "token create --user alice --name n --role root", "nope"]
)
def test_unknown_words_end_with_code_2(shell: Shell, arguments: str) -> None:
    outcome = shell.run(*arguments.split())
    assert (outcome.code, outcome.output) == (2, "")


def test_a_data_folder_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    outcome = Shell(file, monkeypatch, capsys).add_user()
    assert outcome.code == 2
    assert f"The data folder {file} cannot be used" in outcome.errors


def test_a_database_that_is_none_is_refused_and_kept(shell: Shell) -> None:
    shell.data_dir.mkdir(parents=True)
    path = shell.data_dir / "gatehouse.db"
    path.write_bytes(b"something precious" * 500)
    outcome = shell.add_user()
    assert outcome.code == 2
    assert "The database cannot be used" in outcome.errors
    assert path.read_bytes() == b"something precious" * 500


def test_a_wrong_setting_is_named_without_the_secret_in_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEHOUSE_DATABASE_URL", "gibberish-s3cret")
    outcome = shell.add_user()
    assert outcome.code == 2
    assert "GATEHOUSE_DATABASE_URL" in outcome.errors
    assert "s3cret" not in outcome.errors
    monkeypatch.setenv("GATEHOUSE_PORT", "http")
    assert "GATEHOUSE_PORT" in shell.add_user().errors


def test_commands_work_while_something_else_holds_the_database(shell: Shell) -> None:
    shell.add_user()
    database = shell.database()
    with database.read() as session:
        session.connection().exec_driver_sql("SELECT count(*) FROM users").fetchall()
        assert shell.run("user", "plan", "alice", "pro").code == 0
    database.dispose()


def test_what_the_operator_did_is_recorded(shell: Shell) -> None:
    shell.add_user()
    shell.run("token", "create", "--user", "alice", "--name", "ci")
    entries = AuditTrail(shell.database()).recent()
    assert [entry.action for entry in entries] == ["token.create", "user.create"]
    assert {entry.actor_name for entry in entries} == {"(operator)"}


def test_the_installed_program_explains_itself() -> None:
    program = Path(sys.executable).parent / "gatehouse"
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    shown = subprocess.run(
        [program, "--help"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    for word in ("model hub", "user", "token", "org", "HF_ENDPOINT", "HF_TOKEN"):
        assert word in shown


@pytest.mark.parametrize(
    "arguments", ["token create --user alice --name n", "org create acme --owner alice"]
)
def test_a_command_loads_neither_the_server_nor_migrations(shell: Shell, arguments: str) -> None:
    shell.add_user()
    command = [*arguments.split(), "--data-dir", str(shell.data_dir)]
    program = (
        "import sys; from gatehouse.cli.main import app\n"
        f"try: app({command})\n"
        "finally: print(*sorted(sys.modules), sep='\\n')\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "gatehouse.identity.users" in shown
    assert not {"fastapi", "granian", "alembic", "rich", "torch"}.intersection(shown)


def test_an_unknown_command_is_answered_with_the_nearest_known(shell: Shell) -> None:
    outcome = shell.run("tokn")
    assert outcome.code == 2
    assert "token" in outcome.errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ("serve", "Start the server", "demo", "gated demo model", "Make access tokens")),
        ("serve", ("--workers", "--port", "Hub processes")),
        ("token", ("create", "Make access tokens")),
        ("org add", ("--role", "Let a user into")),
    ],
)
def test_help_names_what_there_is(
    capsys: pytest.CaptureFixture[str], arguments: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit):
        app([*arguments.split(), "--help"])
    shown = capsys.readouterr().out
    for word in words:
        assert word in shown


def test_models_are_pinned_and_listed(shell: Shell, hub: Hub) -> None:
    person = hub.make_user("ada")
    hub.make_repo(person, "model", files={"config.json": b"{}"})
    shell.data_dir = hub.settings.data_dir
    assert shell.run("model", "pin", "ada/model").code == 0
    assert shell.run("model", "pin", "ada/model@main").code == 0
    assert shell.run("model", "list").output == "ada/model@main\n"
    refused = shell.run("model", "pin", "ada/model@nowhere")
    assert refused.code == 2
    assert "no branch, tag or commit `nowhere`" in refused.errors
    assert shell.run("model", "pin", "ada/nothing").code == 2
    assert shell.run("model", "unpin", "ada/model").code == 0
    assert shell.run("model", "list").output == ""
    assert "gatehouse model list" in shell.run("model", "unpin", "ada/model").errors
