"""The web application over a market's services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Lifespan

from suanli_market.api import blobs, events, leases, market, operation, papers, problems, record
from suanli_market.api.limits import LimitsMiddleware
from suanli_market.api.quick import QuickMiddleware
from suanli_market.api.recent import Recent
from suanli_market.api.requests import RequestsMiddleware
from suanli_market.services import Services

ROUTES = (market, papers, leases, blobs, events, record, operation)


def create_app(services: Services) -> FastAPI:
    """The application; its lifespan starts and stops the market's threads."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.start()
        try:
            yield
        finally:
            services.stop()

    app = bare_app(services.info.version, lifespan)
    app.state.services = services
    app.state.findings = Recent(services.health.findings)
    app.state.exposition = Recent(services.figures.exposition)
    problems.install(app, services.counters)
    app.add_middleware(QuickMiddleware, services=services, routes=app.routes)
    app.add_middleware(LimitsMiddleware, limits=services.limits, halted=lambda: services.keeper.halted)
    app.add_middleware(RequestsMiddleware, counters=services.counters)
    return app


def bare_app(version: str, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes alone; they describe themselves without a market behind them."""
    app = FastAPI(
        title="Suanli market",
        version=version,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # the committed document is the one to read
        telemetry={"tracing": False, "metrics": False, "logs": False},  # our own say what is to be known
    )
    for part in ROUTES:
        app.router.routes.extend(part.router.routes)  # included, they would be searched one by one, twice
    return app
