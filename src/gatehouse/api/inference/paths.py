"""The ways in which clients write a model's address, each as one route.

Newer clients that were led here by a proxy put `/hf-inference` in front; some encode the slash
inside the id, add one at the end, or leave `/v1` out. `@` and a revision may follow the id.
"""

from collections.abc import Sequence

from starlette.convertors import Convertor, register_url_convertor

from gatehouse.http.raw_path import decoded

_VERSION = "/v1/"


class _Spelling(Convertor[str]):
    """A part of an address that has no meaning of its own; `shown` stands for it in logs."""

    shown = ""

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _ProxyConvertor(_Spelling):
    regex = r"(?:(?:api/inference-proxy/)?hf-inference/)?"


class _SlashConvertor(_Spelling):
    regex = r"/|%2F"
    shown = "/"


class _VersionConvertor(_Spelling):
    regex = r"(?:v1/)?"
    shown = "v1/"


class _EndConvertor(_Spelling):
    regex = r"/?"


class _RevisionConvertor(Convertor[str]):
    """`@` and a branch, tag or commit; slashes in it are encoded."""

    regex = r"(?:@[^/]*)?"
    shown = ""

    def convert(self, value: str) -> str:
        return decoded(value.removeprefix("@"))

    def to_string(self, value: str) -> str:
        return f"@{value}" if value else ""


# At import, because a route is compiled when its decorator runs.
register_url_convertor("proxy", _ProxyConvertor())
register_url_convertor("slash", _SlashConvertor())
register_url_convertor("version", _VersionConvertor())
register_url_convertor("end", _EndConvertor())
register_url_convertor("revision", _RevisionConvertor())
MODEL = "{namespace:name}{slash:slash}{name:name}{revision:revision}"


def model_paths(rest: str, ends: Sequence[str] = ("{end:end}",)) -> list[str]:
    """Route paths for something below a model, such as `/generate`."""
    if rest.startswith(_VERSION):
        rest = "/{version:version}" + rest.removeprefix(_VERSION)
    return [f"/{{proxy:proxy}}models/{MODEL}{rest}{end}" for end in ends]


def root_paths(rest: str) -> list[str]:
    """Route paths for something that names its model elsewhere."""
    return [rest + "{end:end}"]
