"""The web application over a market's services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from suanli_market.api import blobs, events, leases, market, papers, problems, record
from suanli_market.api.limits import LimitsMiddleware
from suanli_market.services import Services


def create_app(services: Services) -> FastAPI:
    """The application; its lifespan starts and stops the market's threads."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.start()
        try:
            yield
        finally:
            services.stop()

    app = FastAPI(title="Suanli market", version=services.info.version, lifespan=lifespan, redirect_slashes=False)
    app.state.services = services
    problems.install(app)
    app.add_middleware(LimitsMiddleware, halted=lambda: services.keeper.halted)
    for part in (papers, market, leases, blobs, events, record):
        app.include_router(part.router)
    return app
