"""What to set for which client, so that a program reaches this hub unchanged.

The rows are those of contract: `huggingface_hub` up to 0.27 obeys a variable, later ones know a
fixed host; JavaScript and others have ways of their own.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

_NODE_MODULE = Path(__file__).parent / "node" / "drop_in.mjs"


class Client(StrEnum):
    """A program, as people call it."""

    HUGGINGFACE_HUB = "huggingface_hub"
    TRANSFORMERS_JS = "transformers.js"
    HUGGINGFACE_JS = "huggingface.js"
    OPENAI = "openai"
    TEXT_GENERATION = "text-generation"
    GIT = "git"
    CURL = "curl"


class Shell(StrEnum):
    """How the lines are written."""

    SH = "sh"
    FISH = "fish"
    POWERSHELL = "powershell"
    DOTENV = "dotenv"


@dataclass(frozen=True, slots=True)
class HubAddresses:
    """Where a client finds things.

    Attributes:
        url: The hub's own address.
        proxy_url: The drop-in listener's; None if there is none.
        names: Host names that it answers for.
        folder: Where `ca.pem`, `roots.pem` and the Node module lie.
    """

    url: str
    proxy_url: str | None
    names: tuple[str, ...]
    folder: Path


def publish_node_module(folder: Path) -> None:
    """Put the module that Node loads beside the certificates."""
    target = folder / _NODE_MODULE.name
    temporary = target.with_suffix(".new")
    shutil.copyfile(_NODE_MODULE, temporary)
    temporary.replace(target)


def needs_listener(client: Client) -> bool:
    """Whether nothing can be set for it without a drop-in listener."""
    return client not in (Client.HUGGINGFACE_HUB, Client.OPENAI)


def variables(client: Client, hub: HubAddresses) -> dict[str, str]:
    """The environment for one client; what needs a listener is left out where there is none."""
    found = dict(_WITHOUT_LISTENER.get(client, _nothing)(hub))
    if hub.proxy_url is not None:
        found |= _WITH_LISTENER.get(client, _nothing)(hub, hub.proxy_url)
    return found


def line(shell: Shell, name: str, value: str) -> str:
    """One variable in the words of a shell."""
    match shell:
        case Shell.SH:
            quoted = value.replace("'", "'\\''")
            return f"export {name}='{quoted}'"
        case Shell.FISH:
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"set -gx {name} '{quoted}'"
        case Shell.POWERSHELL:
            quoted = value.replace("'", "''")
            return f"$env:{name} = '{quoted}'"
        case Shell.DOTENV:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
            return f'{name}="{quoted}"'


def _hub(hub: HubAddresses) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        # Read by huggingface_hub up to 0.27, and then enough.
        "HF_INFERENCE_ENDPOINT": hub.url,
    }


def _openai(hub: HubAddresses) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{hub.url}/v1"}


def _python(hub: HubAddresses, proxy_url: str) -> dict[str, str]:
    roots = str(hub.folder / "roots.pem")
    return {
        "HTTPS_PROXY": proxy_url,
        "SSL_CERT_FILE": roots,
        # requests, in huggingface_hub up to 0.36, reads only this.
        "REQUESTS_CA_BUNDLE": roots,
        "NO_PROXY": _no_proxy(hub),
    }


def _node(hub: HubAddresses, proxy_url: str) -> dict[str, str]:
    return {
        "NODE_OPTIONS": f"--import={(hub.folder / _NODE_MODULE.name).as_uri()}",
        "GATEHOUSE_DROP_IN": proxy_url,
        "GATEHOUSE_DROP_IN_NAMES": ",".join(hub.names),
        "GATEHOUSE_DROP_IN_CA": str(hub.folder / "ca.pem"),
    }


def _git(hub: HubAddresses, proxy_url: str) -> dict[str, str]:
    roots = str(hub.folder / "roots.pem")
    return {"HTTPS_PROXY": proxy_url, "GIT_SSL_CAINFO": roots, "NO_PROXY": _no_proxy(hub)}


def _curl(hub: HubAddresses, proxy_url: str) -> dict[str, str]:
    roots = str(hub.folder / "roots.pem")
    return {"HTTPS_PROXY": proxy_url, "CURL_CA_BUNDLE": roots, "NO_PROXY": _no_proxy(hub)}


def _no_proxy(hub: HubAddresses) -> str:
    names = [urlsplit(hub.url).hostname or "", "localhost", "127.0.0.1"]
    return ",".join(dict.fromkeys(name for name in names if name))


def _nothing(*_: object) -> dict[str, str]:
    return {}


_WITHOUT_LISTENER: dict[Client, Callable[[HubAddresses], dict[str, str]]] = {
    Client.HUGGINGFACE_HUB: _hub,
    Client.OPENAI: _openai,
}
_WITH_LISTENER: dict[Client, Callable[[HubAddresses, str], dict[str, str]]] = {
    Client.HUGGINGFACE_HUB: _python,
    Client.TEXT_GENERATION: _python,
    Client.TRANSFORMERS_JS: _node,
    Client.HUGGINGFACE_JS: _node,
    Client.GIT: _git,
    Client.CURL: _curl,
}
