"""The app: routes, errors, the edge and the page put together around a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from bloomery import __version__
from bloomery.doors.http import catalogue, console_routes, instances, log_routes, nodes, problems, upkeep
from bloomery.doors.http.edge import Edge
from bloomery.doors.http.problems import Problem
from bloomery.doors.http.service import Service

PAGE = Path(__file__).parent / "page"
"""The web page's files."""
THREADS = 64
"""So many requests may wait for Ironic, Neutron or the log at a time."""

DESCRIPTION = """Instances on the bare-metal nodes of OpenStack Ironic.

What takes long is answered with 202 and an operation to follow: poll `GET /v1/operations/{id}`, or listen to
`GET /v1/events/stream`. Errors are problem details (RFC 9457) that say what to do next. While Ironic is away, lists answer
from what was last seen, with its age in the header `Bloomery-Stale`; what would change something says so instead."""


def create_app(service: Service) -> FastAPI:
    """The app around that service, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        await to_thread.run_sync(lambda: None)
        service.start()
        try:
            yield
        finally:
            await to_thread.run_sync(service.stop)

    app = bare_app(lifespan)
    app.state.service = service
    app.add_middleware(Edge, service=service)
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def bare_app(lifespan: Any = None) -> FastAPI:
    """The routes and what is said of them, without a service."""
    app = FastAPI(
        title="Bloomery",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    routers = [part.router for part in (catalogue, instances, console_routes, nodes, log_routes, upkeep)]
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(instances.AskedBefore, instances.answer_again)  # type: ignore[arg-type]
    problems.install(app, [route for router in routers for route in router.routes])
    original = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = original()
            found["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            found["components"]["securitySchemes"] = {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "Keystone's."},
            }
            found["security"] = [{}, {"basic": []}, {"token": []}]
            for unused in ("HTTPValidationError", "ValidationError"):
                found["components"]["schemas"].pop(unused, None)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app
