"""Stock `git` and `git-lfs`: clone, edit, push, and what the other clients see of it."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance_files import assert_sound, digests
from hub_server import HubServer, Person
from stock_client import StockClient

NewClient = Callable[..., StockClient]
_HF = Path(sys.executable).with_name("hf")
_SIZE = 20_000_000


class GitMachine:
    """A machine with git set up for one person.

    As the client's own helper does, the user name is never the one that owns the token.
    """

    def __init__(self, client: StockClient) -> None:
        self.client = client
        self.git("config", "--global", "user.name", "Somebody")
        self.git("config", "--global", "user.email", "somebody@example.com")
        self.git("config", "--global", "init.defaultBranch", "main")
        self.git("lfs", "install")

    def git(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        return self.client.check("git", *arguments, cwd=cwd)

    def try_git(
        self, *arguments: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.client.run("git", *arguments, cwd=cwd)

    def url(self, repo_id: str) -> str:
        address = self.client.hub.url.removeprefix("http://")
        credentials = f"hf_user:{self.client.token}@" if self.client.token else ""
        return f"http://{credentials}{address}/{repo_id}"

    def clone(self, repo_id: str, name: str = "clone") -> Path:
        self.git("clone", self.url(repo_id), name)
        return self.client.home / name

    def commit(self, folder: Path, message: str) -> str:
        self.git("add", "--all", cwd=folder)
        self.git("commit", "--message", message, cwd=folder)
        return self.git("rev-parse", "HEAD", cwd=folder).strip()


@pytest.fixture
def git(owner: StockClient) -> GitMachine:
    return GitMachine(owner)


def create(client: StockClient, repo_id: str, *, private: bool = False) -> None:
    client.python(
        """
        import sys
        from huggingface_hub import HfApi
        HfApi().create_repo(sys.argv[1], private=sys.argv[2] == "private")
        """,
        repo_id,
        "private" if private else "public",
    )


def test_a_push_with_a_large_file_is_seen_by_a_fresh_clone_and_by_downloads(
    git: GitMachine, new_client: NewClient, server: HubServer
) -> None:
    create(git.client, "alice/by-git")
    folder = git.clone("alice/by-git")
    data = random.Random(1).randbytes(_SIZE)
    (folder / "weights.safetensors").write_bytes(data)
    (folder / "notes").mkdir()
    (folder / "notes" / "größe.md").write_text("# Notes\n")
    oid = git.commit(folder, "Add weights")
    pushed = git.git("push", "origin", "main", cwd=folder)
    assert "error" not in pushed
    (folder / "notes" / "second.md").write_text("more\n")
    newest = git.commit(folder, "Edit")
    git.git("push", "origin", "main", cwd=folder)

    anybody = GitMachine(new_client())
    fresh = anybody.clone("alice/by-git")
    assert anybody.git("log", "--format=%H", cwd=fresh).split()[:2] == [newest, oid]
    assert hashlib.sha256((fresh / "weights.safetensors").read_bytes()).hexdigest() == (
        hashlib.sha256(data).hexdigest()
    )
    assert "does not" not in anybody.git("fsck", "--full", "--strict", cwd=fresh)
    downloaded = new_client()
    downloaded.check(_HF, "download", "alice/by-git", "--local-dir", downloaded.home / "files")
    assert digests(downloaded.home / "files") == digests(fresh)
    assert downloaded.python(
        """
        import json
        from huggingface_hub import HfApi
        info = HfApi().model_info("alice/by-git", files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings}
        print(json.dumps([info.sha, sizes["weights.safetensors"]]))
        """
    ) == [newest, _SIZE]
    assert_sound(server)


def test_an_edit_in_a_clone_of_an_uploaded_repository_is_pushed(
    git: GitMachine, tmp_path: Path
) -> None:
    create(git.client, "alice/mixed")
    data = random.Random(2).randbytes(5_000_000)
    (tmp_path / "model.bin").write_bytes(data)
    upload = """
        import sys
        from huggingface_hub import HfApi
        HfApi().upload_file(
            path_or_fileobj=sys.argv[1], path_in_repo="model.bin", repo_id="alice/mixed"
        )
        """
    git.client.python(upload, tmp_path / "model.bin")
    folder = git.clone("alice/mixed")
    assert (folder / "model.bin").read_bytes() == data
    (folder / "model.bin").write_bytes(data + b"tail")
    git.commit(folder, "Grow")
    git.git("push", cwd=folder)
    assert git.client.python(
        """
        import hashlib, json
        from huggingface_hub import hf_hub_download
        data = open(hf_hub_download("alice/mixed", "model.bin"), "rb").read()
        print(json.dumps(hashlib.sha256(data).hexdigest()))
        """
    ) == (hashlib.sha256(data + b"tail").hexdigest())

    (tmp_path / "model.bin").write_bytes(b"moved on" * 1_000_000)
    git.client.python(upload, tmp_path / "model.bin")
    (folder / "late.txt").write_text("late")
    git.commit(folder, "Late")
    late = git.try_git("push", cwd=folder)
    assert late.returncode != 0
    assert "fetch first" in late.stderr
    git.git("pull", "--rebase", cwd=folder)
    git.git("push", cwd=folder)


def test_a_push_needs_a_write_token_of_somebody_who_may_write(
    git: GitMachine, alice: Person, bob: Person, new_client: NewClient
) -> None:
    create(git.client, "alice/guarded")
    before = git.git("ls-remote", git.url("alice/guarded"))
    for token, status in ((alice.read_token, "403"), (bob.write_token, "403"), (None, "")):
        machine = GitMachine(new_client(token))
        folder = machine.clone("alice/guarded")
        (folder / "added.txt").write_text("x")
        machine.commit(folder, "Add")
        push = machine.try_git("push", "origin", "main", cwd=folder)
        assert push.returncode != 0
        assert status in push.stderr
    assert git.git("ls-remote", git.url("alice/guarded")) == before


def test_a_private_repository_is_hidden_from_git(
    git: GitMachine, bob: Person, new_client: NewClient
) -> None:
    create(git.client, "alice/hidden", private=True)
    assert git.clone("alice/hidden").is_dir()
    stranger, anybody = GitMachine(new_client(bob.write_token)), GitMachine(new_client())
    for name in ("alice/hidden", "alice/never-made"):
        outcome = stranger.try_git("clone", stranger.url(name), "clone")
        assert outcome.returncode != 0
        assert "not found" in outcome.stderr
        # Git asks for a password, which it may not here.
        outcome = anybody.try_git("clone", anybody.url(name), "clone")
        assert outcome.returncode != 0
        assert "could not read Username" in outcome.stderr


def test_a_pointer_to_an_object_that_was_never_uploaded_is_refused(git: GitMachine) -> None:
    create(git.client, "alice/pointers")
    folder = git.clone("alice/pointers")
    before = git.git("rev-parse", "HEAD", cwd=folder).strip()
    oid = hashlib.sha256(b"never uploaded").hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 14\n"
    git.git("lfs", "uninstall", "--local", cwd=folder)
    git.git("config", "--global", "--remove-section", "filter.lfs")
    (folder / ".git" / "hooks" / "pre-push").unlink(missing_ok=True)
    (folder / "weights.bin").write_text(pointer)
    git.commit(folder, "Point at nothing")
    push = git.try_git("push", "origin", "main", cwd=folder)
    assert push.returncode != 0
    assert oid[:10] in push.stderr or "weights.bin" in push.stderr, push.stderr
    assert git.git("ls-remote", git.url("alice/pointers"), "refs/heads/main").split()[0] == before


def test_a_large_file_outside_lfs_is_refused(git: GitMachine) -> None:
    create(git.client, "alice/heavy")
    folder = git.clone("alice/heavy")
    (folder / "data.unknown").write_bytes(random.Random(3).randbytes(11 * 1024 * 1024))
    git.commit(folder, "Heavy")
    push = git.try_git("push", "origin", "main", cwd=folder)
    assert push.returncode != 0
    assert "data.unknown" in push.stderr


def test_branches_and_tags_are_pushed_and_used_as_revisions(
    git: GitMachine, nobody: StockClient
) -> None:
    create(git.client, "alice/branches")
    folder = git.clone("alice/branches")
    git.git("checkout", "-b", "feature/x", cwd=folder)
    (folder / "only-here.txt").write_text("branch")
    oid = git.commit(folder, "On a branch")
    git.git("tag", "v1", cwd=folder)
    git.git("push", "origin", "feature/x", "v1", cwd=folder)
    assert nobody.python(
        """
        import json
        from huggingface_hub import HfApi, hf_hub_download
        api, repo, name = HfApi(), "alice/branches", "only-here.txt"
        texts = [open(hf_hub_download(repo, name, revision=r)).read() for r in ("feature/x", "v1")]
        print(json.dumps([texts, api.model_info(repo, revision="feature/x").sha,
                          api.file_exists(repo, name)]))
        """
    ) == [["branch", "branch"], oid, False]
