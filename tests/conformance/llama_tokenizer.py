"""The genuine Llama 2 tokenizer in a gated repository of a hub.

It is built from an installed library for the time of the test, and never kept.
"""

from pathlib import Path

from hub_server import HubServer, Person
from stock_client import NODE_FOLDER, StockClient

REPO_ID = "meta-llama/Llama-2-7b-hf"
HELLO_WORLD = [1, 15043, 3186, 29991]


def publish_tokenizer(server: HubServer, folder: Path) -> Person:
    """Push the tokenizer to a repository of that name; returns somebody who was let in.

    Args:
        server: The hub, which has no organization `meta-llama` yet.
        folder: Empty, for the files and the machine that pushes them.
    """
    keeper, member = server.person("keeper"), server.person("member")
    server.gatehouse("org", "create", "meta-llama", "--owner", keeper.name)
    machine = StockClient(server, folder / "machine", keeper.write_token)
    tokenizer = folder / "tokenizer"
    machine.check("node", NODE_FOLDER / "make_llama_tokenizer.mjs", tokenizer)
    machine.python(
        """
        import sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), sys.argv[1]
        api.create_repo(repo)
        api.update_repo_settings(repo, gated="manual")
        api.upload_folder(repo_id=repo, folder_path=sys.argv[2])
        api.grant_access(repo, "member")
        """,
        REPO_ID,
        tokenizer,
    )
    return member
