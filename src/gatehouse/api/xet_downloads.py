"""The reading half of the CAS routes: what a file is rebuilt from, and the bytes of that.

A reconstruction names addresses that are signed for one range of one xorb and a short time, since
clients send no token there; the gate is asked again when they are used. Source: the Xet protocol's
`openapi/cas.openapi.yaml`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatehouse.core.errors import Forbidden, NotFound
from gatehouse.http.addresses import base_url
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.downloads import requested_range, send_part, unsatisfiable
from gatehouse.http.gates import Admitted, CapabilityGate
from gatehouse.identity.capabilities import Purpose
from gatehouse.identity.permissions import Permission
from gatehouse.storage.xet.reconstruction import Reconstruction, StoredRange

router = APIRouter()

# Clients ask for the addresses of some hundred megabytes at a time, and again after a 403.
_DATA_SECONDS = 900
_CAS = "/xet/{scope:name}"


class AddressRefused(Forbidden):
    """A signed address is forged or expired; at a 403, clients ask for a new one."""


_Reader = Annotated[
    Admitted, Depends(CapabilityGate(Permission.REPO_CONTENT, frozenset({Purpose.XET_READ})))
]
_Fetcher = Annotated[
    Admitted,
    Depends(
        CapabilityGate(
            Permission.REPO_CONTENT,
            frozenset({Purpose.XET_DATA}),
            in_query=True,
            refusal=AddressRefused,
        )
    ),
]


@router.get(_CAS + "/{version:name}/reconstructions/{file_hash}")
def reconstruction(
    scope: str,
    version: str,
    file_hash: str,
    request: Request,
    services: ServicesDependency,
    admitted: _Reader,
) -> Response:
    if version not in _FORMS:
        raise NotFound("Only versions 1 and 2 of this question are known.")
    key, entry = _FORMS[version]
    file = services.xet_downloads.file(admitted.repository, file_hash)
    first, last = requested_range(request, file.size) or (0, file.size - 1)
    if first >= file.size:
        return unsatisfiable(file.size)
    plan = services.xet_downloads.plan(file, first, last + 1)
    fetches: dict[str, list[dict[str, Any]]] = {}
    for stored in plan.stored:
        url = _signed_url(request, services, admitted, scope, stored)
        fetches.setdefault(stored.xorb_hash, []).append(entry(stored, url))
    return JSONResponse({**_terms(plan), key: fetches})


@router.get(_CAS + "/data/{xorb_hash}")
def data(
    xorb_hash: str, request: Request, services: ServicesDependency, admitted: _Fetcher
) -> Response:
    signed = _SignedRange.parse(admitted.subject)
    if signed.xorb_hash != xorb_hash:
        raise AddressRefused("This address was signed for another xorb.")
    path = services.xet_downloads.xorb_path(xorb_hash)
    size = path.stat().st_size
    asked = requested_range(request, size)
    if asked is None or not signed.first <= asked[0] <= asked[1] <= signed.last:
        return unsatisfiable(size)
    first, last = asked
    return send_part(path, first, last, size)


@dataclass(frozen=True, slots=True)
class _SignedRange:
    """What an address is signed for: bytes `first` to `last` (inclusive) of a stored xorb."""

    xorb_hash: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.xorb_hash} {self.first} {self.last}"

    @classmethod
    def parse(cls, subject: str) -> Self:
        """Read what `str` gave, from a capability that was verified."""
        xorb_hash, first, last = subject.split()
        return cls(xorb_hash, int(first), int(last))


def _terms(plan: Reconstruction) -> dict[str, Any]:
    terms = [
        {
            "hash": term.xorb_hash,
            "unpacked_length": term.raw_length,
            "range": {"start": term.start_chunk, "end": term.end_chunk},
        }
        for term in plan.terms
    ]
    return {"offset_into_first_range": plan.offset, "terms": terms}


def _first_form(stored: StoredRange, url: str) -> dict[str, Any]:
    return {"range": _chunks(stored), "url": url, "url_range": _bytes(stored)}


def _second_form(stored: StoredRange, url: str) -> dict[str, Any]:
    """One address per range: several in one would be asked for as `multipart/byteranges`."""
    return {"url": url, "ranges": [{"chunks": _chunks(stored), "bytes": _bytes(stored)}]}


# By version: under which key the addresses stand, and what one looks like.
_FORMS = {"v1": ("fetch_info", _first_form), "v2": ("xorbs", _second_form)}


def _chunks(stored: StoredRange) -> dict[str, int]:
    return {"start": stored.start_chunk, "end": stored.end_chunk}


def _bytes(stored: StoredRange) -> dict[str, int]:
    """On the wire, byte ranges include their end and chunk ranges do not."""
    return {"start": stored.start, "end": stored.end - 1}


def _signed_url(
    request: Request, services: Services, admitted: Admitted, scope: str, stored: StoredRange
) -> str:
    user = admitted.actor.user
    text, _ = services.capabilities.issue(
        Purpose.XET_DATA,
        admitted.repository.id,
        None if user is None else user.id,
        seconds=_DATA_SECONDS,
        subject=str(_SignedRange(stored.xorb_hash, stored.start, stored.end - 1)),
    )
    return f"{base_url(request)}/xet/{scope}/data/{stored.xorb_hash}?capability={text}"
