"""Build every service from the settings: the only place where rooms are wired together."""

import secrets

from sqlalchemy import make_url

from gatehouse.core.clock import Clock, SystemClock
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.http.body_waits import BodyWaits
from gatehouse.http.client_address import TrustedProxies
from gatehouse.http.context import Services
from gatehouse.identity.capabilities import Capabilities
from gatehouse.identity.database_counters import DatabaseCounters
from gatehouse.identity.device_flow import DeviceFlow
from gatehouse.identity.organizations import Organizations
from gatehouse.identity.passwords import Passwords
from gatehouse.identity.plans import Plans, default_plans
from gatehouse.identity.rate_limits import RateLimits
from gatehouse.identity.sessions import Sessions
from gatehouse.identity.sign_in_limits import SignInLimits
from gatehouse.identity.tokens import AccessTokens
from gatehouse.identity.users import Users
from gatehouse.inference.cache.response_cache import open_response_cache
from gatehouse.inference.catalogue import Catalogue
from gatehouse.inference.chat import ChatCompletions
from gatehouse.inference.completions.answers import Completions
from gatehouse.inference.embeddings import TextEmbeddings
from gatehouse.inference.generation import TextGeneration
from gatehouse.inference.lifecycle.adapter_sources import AdapterSources
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.model_folders import ModelFolders
from gatehouse.inference.lifecycle.model_options import ModelOptions
from gatehouse.inference.lifecycle.model_sources import ModelSources
from gatehouse.inference.lifecycle.pin_keeper import PinKeeper
from gatehouse.inference.lifecycle.pinned_models import PinnedModels
from gatehouse.inference.plans.admission import Admission
from gatehouse.inference.plans.ledger import Ledger
from gatehouse.inference.plans.pro_models import ProModels
from gatehouse.inference.plans.usage import Usage
from gatehouse.inference.remote.provider import RemoteModels
from gatehouse.inference.remote.registrations import RemoteEngines
from gatehouse.inference.remote.sealing import Seal
from gatehouse.observability.metrics import Metrics
from gatehouse.repos.access import Access
from gatehouse.repos.commits import Commits
from gatehouse.repos.download_counts import DownloadCounts
from gatehouse.repos.files import Files
from gatehouse.repos.gating import Gating, GrantedUsers
from gatehouse.repos.infos import Infos
from gatehouse.repos.large_files import LargeFiles
from gatehouse.repos.pushes import Pushes
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.uploads import Uploads
from gatehouse.repos.xet import XetUploads
from gatehouse.repos.xet_downloads import XetDownloads
from gatehouse.storage.created_once import created_once, folder_secret
from gatehouse.storage.disk import DiskBlobStore
from gatehouse.storage.xet.disk import DiskXorbStore


def build_services(settings: Settings, database: Database, clock: Clock | None = None) -> Services:
    """Wire the rooms over `database`, which must be migrated, and the data folder."""
    clock = clock or SystemClock()
    folder = settings.data_dir.resolve()
    incoming = folder / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    blobs = DiskBlobStore(folder / "blobs")
    access = Access(GrantedUsers(database))
    repositories = Repositories(database, access, clock, folder / "git")
    files = Files(database, blobs, repositories)
    infos = Infos(files)
    folders = ModelFolders(folder / "views")
    sources = ModelSources(
        files, infos, folders, ModelOptions(database, clock).of, database.version
    )
    pins = PinnedModels(database, clock)
    large_files = LargeFiles(database, blobs, repositories, access, clock)
    xorbs = DiskXorbStore(folder / "xet")
    limits = settings.max_regular_file_bytes
    metrics = Metrics(settings.metrics_dir)
    socket = settings.supervisor_socket or folder / "no-supervisor.socket"
    hosts = ModelHosts(socket, metrics.sequences)
    remote_engines = RemoteEngines(database, Seal(folder_secret(folder)), clock)
    remote_models = RemoteModels()
    generation = TextGeneration(hosts, remote_models)
    counters = DatabaseCounters(open_counters(settings))
    plans = Plans(database, clock, default_plans(settings))
    pro_models = ProModels(database, clock)
    rate_limits = RateLimits(counters, clock)
    usage = Usage(database)
    ledger = Ledger(usage, rate_limits.settle)
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        public_url=settings.public_url,
        users=Users(database, clock, Passwords()),
        organizations=Organizations(database, clock),
        tokens=AccessTokens(database, clock),
        sessions=Sessions(database, clock),
        device_flow=DeviceFlow(database, clock),
        sign_in_limits=SignInLimits(counters, clock),
        plans=plans,
        trusted_proxies=TrustedProxies(settings.trusted_proxies),
        body_waits=BodyWaits(),
        capabilities=Capabilities(folder_secret(folder), clock),
        blobs=blobs,
        repositories=repositories,
        access=access,
        files=files,
        infos=infos,
        commits=Commits(database, repositories, large_files, clock, limits),
        large_files=large_files,
        gating=Gating(database, clock),
        uploads=Uploads(files, settings.lfs_threshold_bytes, limits),
        pushes=Pushes(database, repositories, large_files, clock, limits),
        download_counts=DownloadCounts(database, clock),
        xet=XetUploads(
            database,
            xorbs,
            blobs,
            repositories,
            large_files,
            access,
            clock,
            settings.max_file_bytes,
        ),
        xet_downloads=XetDownloads(database, xorbs, large_files, is_offered=settings.xet_downloads),
        store_generation=created_once(folder / "store_generation", secrets.token_hex(6)),
        incoming=incoming,
        hosts=hosts,
        remote_models=remote_models,
        remote_engines=remote_engines,
        generation=generation,
        chat=ChatCompletions(generation),
        completions=Completions(generation),
        embeddings=TextEmbeddings(generation),
        catalogue=Catalogue(repositories, access, files, infos, remote_engines, pro_models),
        response_cache=open_response_cache(folder, settings.response_cache_bytes),
        admission=Admission(
            plans,
            pro_models,
            rate_limits,
            ledger,
            clock,
            allow_anonymous=settings.allow_anonymous_inference,
        ),
        pro_models=pro_models,
        usage=usage,
        ledger=ledger,
        model_folders=folders,
        metrics=metrics,
        model_sources=sources,
        adapter_sources=AdapterSources(files, infos, folders, database.version),
        pinned_models=pins,
        pin_keeper=PinKeeper(
            pins, repositories, sources, hosts, is_needed=settings.supervisor_socket is not None
        ),
    )


def open_counters(settings: Settings) -> Database:
    """Where counts are kept: on SQLite a file of their own, so that they wait for no other writer.

    See docs/adr/0007.
    """
    url = make_url(settings.resolved_database_url())
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(settings.data_dir.resolve() / "counters.db"))
    return Database(url.render_as_string(hide_password=False), is_durable=False)
