"""Every service, built once in `server/app.py` and handed to the handlers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from gatehouse.core.clock import Clock
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.http.body_waits import BodyWaits
from gatehouse.http.client_address import TrustedProxies
from gatehouse.identity.capabilities import Capabilities
from gatehouse.identity.device_flow import DeviceFlow
from gatehouse.identity.organizations import Organizations
from gatehouse.identity.plans import Plans
from gatehouse.identity.sessions import Sessions
from gatehouse.identity.sign_in_limits import SignInLimits
from gatehouse.identity.tokens import AccessTokens
from gatehouse.identity.users import Users
from gatehouse.inference.cache.response_cache import ResponseCache
from gatehouse.inference.catalogue import Catalogue
from gatehouse.inference.chat import ChatCompletions
from gatehouse.inference.completions.answers import Completions
from gatehouse.inference.embeddings import TextEmbeddings
from gatehouse.inference.generation import TextGeneration
from gatehouse.inference.lifecycle.adapter_sources import AdapterSources
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.model_folders import ModelFolders
from gatehouse.inference.lifecycle.model_sources import ModelSources
from gatehouse.inference.lifecycle.pin_keeper import PinKeeper
from gatehouse.inference.lifecycle.pinned_models import PinnedModels
from gatehouse.inference.plans.admission import Admission
from gatehouse.inference.plans.ledger import Ledger
from gatehouse.inference.plans.pro_models import ProModels
from gatehouse.inference.plans.usage import Usage
from gatehouse.inference.remote.provider import RemoteModels
from gatehouse.inference.remote.registrations import RemoteEngines
from gatehouse.observability.metrics import Metrics
from gatehouse.repos.access import Access
from gatehouse.repos.commits import Commits
from gatehouse.repos.download_counts import DownloadCounts
from gatehouse.repos.files import Files
from gatehouse.repos.gating import Gating
from gatehouse.repos.infos import Infos
from gatehouse.repos.large_files import LargeFiles
from gatehouse.repos.pushes import Pushes
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.uploads import Uploads
from gatehouse.repos.xet import XetUploads
from gatehouse.repos.xet_downloads import XetDownloads
from gatehouse.storage.base import BlobStore


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms below the edge, wired.

    Attributes:
        public_url: The base URL to write into answers; None to take the request's own host.
        store_generation: Changes when the store was wiped or restored; see `api/xet_tokens.py`.
        incoming: A folder for request bodies on their way in.
    """

    settings: Settings
    clock: Clock
    database: Database
    public_url: str | None
    users: Users
    organizations: Organizations
    tokens: AccessTokens
    sessions: Sessions
    device_flow: DeviceFlow
    sign_in_limits: SignInLimits
    plans: Plans
    trusted_proxies: TrustedProxies
    body_waits: BodyWaits
    capabilities: Capabilities
    blobs: BlobStore
    repositories: Repositories
    access: Access
    files: Files
    infos: Infos
    commits: Commits
    large_files: LargeFiles
    gating: Gating
    uploads: Uploads
    pushes: Pushes
    download_counts: DownloadCounts
    xet: XetUploads
    xet_downloads: XetDownloads
    store_generation: str
    incoming: Path
    hosts: ModelHosts
    remote_models: RemoteModels
    remote_engines: RemoteEngines
    generation: TextGeneration
    chat: ChatCompletions
    completions: Completions
    embeddings: TextEmbeddings
    catalogue: Catalogue
    response_cache: ResponseCache
    admission: Admission
    pro_models: ProModels
    usage: Usage
    ledger: Ledger
    model_folders: ModelFolders
    metrics: Metrics
    model_sources: ModelSources
    adapter_sources: AdapterSources
    pinned_models: PinnedModels
    pin_keeper: PinKeeper


def services_of(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def _services(request: Request) -> Services:
    # A coroutine, because the framework would run a plain function in a worker thread.
    return services_of(request)


ServicesDependency = Annotated[Services, Depends(_services)]
