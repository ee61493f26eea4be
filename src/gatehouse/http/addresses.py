"""How repositories, revisions and paths are written in URLs, and the base URL in front of them."""

import re
from urllib.parse import quote

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from gatehouse.core.errors import Invalid
from gatehouse.core.ids import RepoKind
from gatehouse.http.raw_path import decoded
from gatehouse.repos.repository import Repository

_REF = re.compile(r"(refs/(?:pr/\d+|convert/[^/]+|heads/[^/]+|tags/[^/]+))(?:/(.*))?", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9.\-]+(?::\d{1,5})?|\[[0-9A-Fa-f:]+\](?::\d{1,5})?")


class _KindConvertor(Convertor[RepoKind]):
    """`models`, `datasets` or `spaces` in an API path."""

    regex = "models|datasets|spaces"

    def convert(self, value: str) -> RepoKind:
        return RepoKind.from_plural(value)

    def to_string(self, value: RepoKind) -> str:
        return value.plural


class _PrefixConvertor(Convertor[RepoKind]):
    """What stands before `namespace/name` in page, resolve and git paths: nothing for models."""

    regex = "(?:datasets/|spaces/)?"

    def convert(self, value: str) -> RepoKind:
        return RepoKind.from_plural(value.rstrip("/")) if value else RepoKind.MODEL

    def to_string(self, value: RepoKind) -> str:
        return value.url_prefix


class _NameConvertor(Convertor[str]):
    """One part of a repository id; clients refuse anything else themselves."""

    regex = r"[A-Za-z0-9_.\-]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _GitNameConvertor(_NameConvertor):
    """A repository's name with or without `.git`, as git clients write it."""

    regex = r"[A-Za-z0-9_.\-]+?(?:\.git)?"

    def convert(self, value: str) -> str:
        return value.removesuffix(".git")


# At import, because a route is compiled when its decorator runs.
register_url_convertor("kind", _KindConvertor())
register_url_convertor("prefix", _PrefixConvertor())
register_url_convertor("name", _NameConvertor())
register_url_convertor("gitname", _GitNameConvertor())


def split_revision(rest: str) -> tuple[str, str]:
    """Split `{revision}/{path}` as clients write it.

    An encoded revision is one segment (`refs%2Fpr%2F3`). JavaScript clients leave `refs/pr/3/a/b`
    as it is, so the special refs are looked for first.
    """
    match = _REF.fullmatch(rest)
    if match:
        return decoded(match[1]), decoded(match[2] or "")
    revision, _, path = rest.partition("/")
    return decoded(revision), decoded(path)


def base_url(request: Request) -> str:
    """The address this client reaches us at, without a trailing slash.

    Clients compare the host of URLs we send with the one they called, so it is the configured
    public URL or the host of the request itself. Whoever came by one of the drop-in listener's
    names reaches us by that name alone, and only with TLS.

    Raises:
        Invalid: The Host header is not a host.
    """
    services = request.app.state.services
    host = request.headers.get("host", "")
    name = host.lower().removesuffix(":443")
    if name in services.settings.drop_in_hosts:
        return f"https://{name}"
    if services.public_url:
        return str(services.public_url).rstrip("/")
    if not _HOST.fullmatch(host):
        raise Invalid("The `Host` header is not a host name.")
    return f"{request.url.scheme}://{host}"


def repo_url(request: Request, repository: Repository, *rest: str) -> str:
    """An absolute URL below a repository; each of `rest` is encoded, slashes kept."""
    tail = "".join(f"/{quote(part, safe='/')}" for part in rest)
    return f"{base_url(request)}/{repository.path}{tail}"
