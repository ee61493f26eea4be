"""`huggingface_hub.HfApi` against the hub: repositories, trees, commits, and its typed errors."""

from collections.abc import Callable

import pytest
from hub_server import HubServer, Person
from stock_client import ProgramFailed, StockClient

NewClient = Callable[..., StockClient]


@pytest.fixture
def filled(owner: StockClient, request: pytest.FixtureRequest) -> str:
    """A repository of Alice's with a few files, named after the test."""
    repo_id = f"alice/{request.node.name.partition('[')[0][5:50].strip('_')}"
    owner.python(
        """
        import sys
        from huggingface_hub import CommitOperationAdd, HfApi
        api = HfApi()
        api.create_repo(sys.argv[1])
        files = {"config.json": b"{}", "a/one.txt": b"1", "a/b/two.txt": b"22", "c/three.txt": b"3"}
        files["README.md"] = b"---\\nlicense: mit\\npipeline_tag: text-generation\\n---\\n# Title"
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(sys.argv[1], operations, commit_message="Fill")
        """,
        repo_id,
    )
    return repo_id


def error_name(client: StockClient, program: str, *arguments: str) -> str:
    """The class of the error that ends `program`."""
    with pytest.raises(ProgramFailed) as caught:
        client.python(f"from huggingface_hub import *\napi = HfApi()\n{program}", *arguments)
    return caught.value.name


def test_model_info_has_what_clients_read(owner: StockClient, filled: str) -> None:
    info = owner.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        info = HfApi().model_info(sys.argv[1], files_metadata=True)
        print(json.dumps({
            "id": info.id, "author": info.author, "sha": len(info.sha), "private": info.private,
            "gated": info.gated, "pipeline_tag": info.pipeline_tag,
            "license": info.card_data.license,
            "year": info.last_modified.year >= 2024 and info.created_at.tzname(),
            "files": {file.rfilename: file.size for file in info.siblings}, "tags": info.tags,
        }))
        """,
        filled,
    )
    assert info.pop("files").keys() == {
        ".gitattributes",
        "README.md",
        "a/b/two.txt",
        "a/one.txt",
        "c/three.txt",
        "config.json",
    }
    assert "license:mit" in info.pop("tags")
    assert info == {
        "id": filled,
        "author": "alice",
        "sha": 40,
        "private": False,
        "gated": False,
        "pipeline_tag": "text-generation",
        "license": "mit",
        "year": "UTC",
    }


def test_trees_are_listed_flat_and_deep(owner: StockClient, filled: str) -> None:
    flat, deep, below, files = owner.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), sys.argv[1]
        def paths(**options):
            return sorted(item.path for item in api.list_repo_tree(repo, **options))
        below = paths(path_in_repo="a", recursive=True, expand=True)
        files = sorted(api.list_repo_files(repo))
        print(json.dumps([paths(), paths(recursive=True), below, files]))
        """,
        filled,
    )
    assert flat == [".gitattributes", "README.md", "a", "c", "config.json"]
    assert below == ["a/b", "a/b/two.txt", "a/one.txt"]
    assert set(deep) == {*files, "a", "a/b", "c"}


def test_trees_longer_than_a_page_are_listed_whole(owner: StockClient) -> None:
    count = owner.python(
        """
        import json
        from huggingface_hub import CommitOperationAdd, HfApi
        api = HfApi()
        api.create_repo("alice/many-files")
        operations = [CommitOperationAdd(f"f{n}", str(n).encode()) for n in range(2300)]
        api.create_commit("alice/many-files", operations, commit_message="Many")
        tree = {file.path for file in api.list_repo_tree("alice/many-files")}
        print(json.dumps(len(tree)))
        """
    )
    assert count == 2301


def test_files_and_folders_are_asked_for_by_name(owner: StockClient, filled: str) -> None:
    exists, paths = owner.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), sys.argv[1]
        exists = [api.file_exists(repo, "a/one.txt"), api.file_exists(repo, "a/none.txt"),
                  api.repo_exists(repo), api.repo_exists("alice/none"),
                  api.revision_exists(repo, "main"), api.revision_exists(repo, "none")]
        paths = [item.path for item in api.get_paths_info(repo, ["a/one.txt", "a", "none"])]
        print(json.dumps([exists, sorted(paths)]))
        """,
        filled,
    )
    assert exists == [True, False, True, False, True, False]
    assert paths == ["a", "a/one.txt"]


def test_files_and_folders_are_deleted(owner: StockClient, filled: str) -> None:
    left = owner.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), sys.argv[1]
        api.delete_file("config.json", repo)
        api.delete_folder("a", repo)
        print(json.dumps(sorted(api.list_repo_files(repo))))
        """,
        filled,
    )
    assert left == [".gitattributes", "README.md", "c/three.txt"]


def test_deleting_what_is_not_there_is_an_entry_not_found(owner: StockClient, filled: str) -> None:
    program = "import sys; api.delete_file('none.txt', sys.argv[1])"
    assert error_name(owner, program, filled) == "RemoteEntryNotFoundError"


def test_a_commit_on_a_parent_that_moved_is_refused(owner: StockClient, filled: str) -> None:
    status, content = owner.python(
        """
        import json, sys
        from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
        api, repo = HfApi(), sys.argv[1]
        parent = api.model_info(repo).sha
        first = [CommitOperationAdd("config.json", b"first")]
        api.create_commit(repo, first, commit_message="One", parent_commit=parent)
        try:
            late = [CommitOperationAdd("config.json", b"late")]
            api.create_commit(repo, late, commit_message="Two", parent_commit=parent)
        except HfHubHTTPError as error:
            status = error.response.status_code
        print(json.dumps([status, open(hf_hub_download(repo, "config.json")).read()]))
        """,
        filled,
    )
    assert (status, content) == (412, "first")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("hf_hub_download('alice/none', 'config.json')", "RepositoryNotFoundError"),
        ("hf_hub_download(sys.argv[1], 'none.json')", "RemoteEntryNotFoundError"),
        ("hf_hub_download(sys.argv[1], 'config.json', revision='no')", "RevisionNotFoundError"),
        ("snapshot_download(sys.argv[1], revision='no')", "RevisionNotFoundError"),
        ("api.model_info('alice/none')", "RepositoryNotFoundError"),
        ("api.model_info(sys.argv[1], revision='no')", "RevisionNotFoundError"),
        ("list(api.list_repo_tree(sys.argv[1], 'none'))", "RemoteEntryNotFoundError"),
        ("api.delete_repo('alice/none')", "RepositoryNotFoundError"),
        ("api.create_repo('bob/mine')", "HfHubHTTPError"),
        (
            "api.upload_file(path_or_fileobj=b'', path_in_repo='../x', repo_id=sys.argv[1])",
            "ValueError",
        ),
        ("HfApi(token='hf_wrong').whoami()", "HfHubHTTPError"),
    ],
)
def test_what_is_missing_or_refused_raises_the_typed_error(
    owner: StockClient, module_repo: str, program: str, error: str
) -> None:
    assert error_name(owner, f"import sys; {program}", module_repo) == error


@pytest.fixture(scope="module")
def module_repo(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository that the tests of this file only read."""
    home = tmp_path_factory.mktemp("machine")
    machine = StockClient(server, home, server.person("alice").write_token)
    machine.python(
        """
        from huggingface_hub import HfApi
        HfApi().create_repo("alice/read-only")
        HfApi().upload_file(
            path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="alice/read-only"
        )
        """
    )
    return "alice/read-only"


@pytest.mark.parametrize(
    "program",
    [
        "api.upload_file(path_or_fileobj=b'x', path_in_repo='x', repo_id=sys.argv[1])",
        "api.delete_repo(sys.argv[1])",
        "api.update_repo_settings(sys.argv[1], gated='auto')",
        "api.move_repo(sys.argv[1], 'bob/stolen')",
        "list(api.list_pending_access_requests(sys.argv[1]))",
    ],
)
@pytest.mark.parametrize("who", ["a stranger with a write token", "the owner with a read token"])
def test_only_the_owner_with_a_write_token_changes_a_repository(
    who: str, program: str, module_repo: str, alice: Person, bob: Person, new_client: NewClient
) -> None:
    token = bob.write_token if who.startswith("a stranger") else alice.read_token
    client = new_client(token)
    assert error_name(client, f"import sys; {program}", module_repo) == "HfHubHTTPError"
    assert client.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        info = HfApi().model_info(sys.argv[1])
        print(json.dumps([info.id, info.gated, len(info.siblings)]))
        """,
        module_repo,
    ) == [module_repo, False, 2]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_private_repositories_of_every_kind_are_invisible(
    kind: str, owner: StockClient, stranger: StockClient, nobody: StockClient
) -> None:
    program = """
        import json, sys
        from huggingface_hub import HfApi
        api, kind = HfApi(), sys.argv[1]
        lists = {"model": api.list_models, "dataset": api.list_datasets, "space": api.list_spaces}
        print(json.dumps([api.repo_exists(f"alice/secret-{kind}", repo_type=kind),
                          f"alice/secret-{kind}" in [r.id for r in lists[kind](author="alice")]]))
        """
    owner.python(
        """
        import sys
        from huggingface_hub import HfApi
        sdk = {"space_sdk": "static"} if sys.argv[1] == "space" else {}
        repo, kind = f"alice/secret-{sys.argv[1]}", sys.argv[1]
        HfApi().create_repo(repo, private=True, repo_type=kind, **sdk)
        HfApi().upload_file(
            path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, repo_type=kind
        )
        """,
        kind,
    )
    assert owner.python(program, kind) == [True, True]
    assert stranger.python(program, kind) == [False, False]
    assert nobody.python(program, kind) == [False, False]
    download = f"hf_hub_download('alice/secret-{kind}', 'x.txt', repo_type='{kind}')"
    for outsider in (stranger, nobody):
        assert error_name(outsider, download) == "RepositoryNotFoundError"


def test_repositories_are_made_listed_moved_and_deleted(
    owner: StockClient, nobody: StockClient
) -> None:
    outcome = owner.python(
        """
        import json
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
        api = HfApi()
        api.create_repo("alice/first-name")
        try:
            api.create_repo("alice/first-name")
        except HfHubHTTPError as error:
            again = error.response.status_code
        same = api.create_repo("alice/first-name", exist_ok=True).repo_id
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="f.json", repo_id="alice/first-name")
        api.move_repo("alice/first-name", "alice/second-name")
        by_old_name = api.model_info("alice/first-name").id
        content = open(hf_hub_download("alice/first-name", "f.json")).read()
        found = [model.id for model in api.list_models(search="second-na")]
        api.upload_file(path_or_fileobj=b"2", path_in_repo="g.json", repo_id="alice/first-name")
        files = api.list_repo_files("alice/second-name")
        api.delete_repo("alice/second-name")
        api.delete_repo("alice/second-name", missing_ok=True)
        gone = not api.repo_exists("alice/second-name") and not api.repo_exists("alice/first-name")
        print(json.dumps([again, same, by_old_name, content, found, sorted(files), gone]))
        """
    )
    assert outcome == [
        409,
        "alice/first-name",
        "alice/second-name",
        "{}",
        ["alice/second-name"],
        [".gitattributes", "f.json", "g.json"],
        True,
    ]


def test_a_card_with_bad_front_matter_is_refused_before_anything_changes(
    owner: StockClient, filled: str
) -> None:
    message, commits_equal = owner.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), sys.argv[1]
        before = api.model_info(repo).sha
        try:
            card = b"---\\nlicense: [1\\n---\\n"
            api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)
        except ValueError as error:
            message = str(error)
        print(json.dumps([message, before == api.model_info(repo).sha]))
        """,
        filled,
    )
    assert "Invalid metadata in README.md" in message
    assert commits_equal
