"""The ASGI application: routers, middleware and error answers around the services."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI

from gatehouse import __version__
from gatehouse.api import git, health, lfs, oauth, xet, xet_downloads, xet_tokens
from gatehouse.api.hub import (
    access_requests,
    contents,
    identity,
    infos,
    later,
    repositories,
    uploads,
    usage,
)
from gatehouse.api.inference import router as inference
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.engines.process import follow_parent
from gatehouse.http import errors
from gatehouse.http.browser_tokens import BrowserTokenMiddleware
from gatehouse.http.context import Services
from gatehouse.http.raw_path import RawPathMiddleware
from gatehouse.http.request_ids import RequestIdMiddleware
from gatehouse.observability.logging import configure_logging
from gatehouse.server.garbage import spare_what_stays
from gatehouse.server.services import build_services
from gatehouse.web.pages.errors import render_error_page
from gatehouse.web.router import pages_router
from gatehouse.web.static_files import PageFiles

# The first route that matches answers, so names that could be an account come last.
_API: tuple[APIRouter, ...] = (
    inference.busiest,
    health.router,
    oauth.router,
    identity.router,
    usage.router,
    repositories.router,
    access_requests.router,
    uploads.router,
    xet_tokens.router,
    xet.router,
    xet_downloads.router,
    inference.router,
    later.router,
    lfs.router,
    git.router,
    infos.router,
    contents.router,
)


def create_app(services: Services) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with (
            services.response_cache,
            services.hosts,
            services.remote_models,
            services.pin_keeper,
        ):
            yield
        await run_sync(services.download_counts.flush)
        await run_sync(services.ledger.close)

    app = FastAPI(
        title="Gatehouse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    app.mount("/static", PageFiles(), name="static")
    for router in (*_API, pages_router()):
        app.include_router(router)
    errors.install(app, render_error_page)
    # The last one added is the outermost.
    app.add_middleware(BrowserTokenMiddleware)
    app.add_middleware(RawPathMiddleware)
    app.add_middleware(
        RequestIdMiddleware, log_all=services.settings.access_log, metrics=services.metrics
    )
    return app


def create() -> FastAPI:
    """The application from the environment, over a migrated database: what a worker loads."""
    # A worker that outlived the server would keep its port, and the supervisor, from the next one.
    follow_parent(os.getppid())
    # Ctrl-C reaches the whole group; a worker that is told twice to stop hangs (granian 2.8).
    os.setpgid(0, 0)
    settings = Settings()
    configure_logging(as_json=settings.log_json)
    app = create_app(build_services(settings, Database(settings.resolved_database_url())))
    spare_what_stays()
    return app
