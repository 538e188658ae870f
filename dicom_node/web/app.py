"""The application: five addresses, all read-only. A login is put around it, not into it."""

import os
import time
from typing import Any

import sqlalchemy as sa
from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dicom_node import audit, index
from dicom_node.counters import FOLDER_VARIABLE
from dicom_node.errors import NodeError
from dicom_node.files import open_files
from dicom_node.jobs import show_job
from dicom_node.lookup import find_study
from dicom_node.pseudonyms import Pseudonyms
from dicom_node.settings import Settings
from dicom_node.web.backlog import backlogs
from dicom_node.web.gauges import registry
from dicom_node.web.progress import loads
from dicom_node.web.readiness import GIB, reasons, room, workers
from dicom_node.web.recent import clock, recent

OK, NOT_FOUND, NOT_READY = 200, 404, 503
REFRESH_SECONDS = 10
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_app(settings: Settings, engine: sa.Engine, pseudonyms: Pseudonyms) -> Starlette:
    """Status page, metrics, liveness and readiness of one node."""
    window = _Window(settings, engine, pseudonyms)
    return Starlette(
        routes=[
            Route("/", window.page),
            Route("/studies/{name}", window.study),
            Route("/style.css", window.style),
            Route("/healthz", healthz),
            Route("/readyz", window.readyz),
            Route("/metrics", window.metrics),
        ]
    )


async def healthz(_request: Request) -> Response:
    """This process is alive: asks nothing of anything."""
    return PlainTextResponse("ok\n")


class _Window:
    """The handlers; Starlette runs each in a thread, as they wait for the database."""

    def __init__(self, settings: Settings, engine: sa.Engine, pseudonyms: Pseudonyms) -> None:
        self._settings = settings
        self._engine = engine
        self._pseudonyms = pseudonyms
        self._files = open_files(settings)
        self._registry = registry(settings, engine)
        if os.environ.get(FOLDER_VARIABLE):
            MultiProcessCollector(self._registry)
        self._templates = Environment(
            loader=PackageLoader("dicom_node.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def readyz(self, _request: Request) -> Response:
        """Whether the node can do its work; if not, why."""
        found = reasons(self._settings, self._engine, self._files)
        told = {"ready": not found, "reasons": list(found)}
        return JSONResponse(told, NOT_READY if found else OK, {"Cache-Control": "no-store"})

    def metrics(self, _request: Request) -> Response:
        """For Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def style(self, _request: Request) -> Response:
        """The page's style sheet."""
        return Response(self._templates.get_template("style.css").render(), media_type="text/css")

    def page(self, request: Request) -> Response:
        """The newest studies, and what keeps the node from its work."""
        told: dict[str, Any] = {
            "rows": (),
            "queues": (),
            "backlogs": (),
            "workers": (),
            "free_gib": None,
            "refresh": 0 if request.query_params.get("refresh") == "0" else REFRESH_SECONDS,
        }
        told["reasons"] = reasons(self._settings, self._engine, self._files)
        try:
            told |= self._facts()
        except index.DATABASE_ERRORS:
            told["rows"] = None  # the reasons say why
        return self._show("status.html", told)

    def _facts(self) -> dict[str, Any]:
        names = tuple(each.name for each in self._settings.destinations)
        rows = recent(self._engine)
        with self._engine.connect() as connection:
            queues, due = loads(connection), backlogs(connection, names)
        return {
            "rows": [(self._pseudonyms.of(row.study_uid), row) for row in rows],
            "queues": queues,
            "backlogs": due,
            "workers": workers(self._settings, self._engine),
            "free_gib": room(self._settings)[0].free / GIB,
        }

    def study(self, request: Request) -> Response:
        """All that is known of one study; that somebody looked is audited."""
        name = request.path_params["name"]
        try:
            study_uid = find_study(self._engine, self._pseudonyms, name)
            jobs = show_job(self._settings, study_uid) if study_uid else ()
        except (*index.DATABASE_ERRORS, NodeError):
            return PlainTextResponse("the database cannot be asked\n", NOT_READY)
        if not jobs:
            return PlainTextResponse("no such study\n", NOT_FOUND)
        address = request.client.host if request.client else ""
        user = getattr(
            request.state, "user", "not logged in"
        )  # by the door before this application
        audit.accessed(study_uid, user, address, self._settings.node.ae_title)
        hidden = self._pseudonyms.hide
        return self._show("study.html", {"name": name, "jobs": jobs, "hide": hidden})

    def _show(self, template: str, told: dict[str, Any]) -> Response:
        now = time.time()
        told |= {"node": self._settings.node.ae_title, "now": now, "clock": clock}
        text = self._templates.get_template(template).render(told)
        return HTMLResponse(text, headers=HEADERS)
