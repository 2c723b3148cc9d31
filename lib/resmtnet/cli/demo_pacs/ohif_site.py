"""Serves a prebuilt OHIF (npm package @ohif/app) together with the DICOMweb of a PACS.

Both have the same origin, since Orthanc sends no CORS headers. For the demo and the tests on this
machine: it passes on every request, storing included, and listens on loopback only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from resmtnet.errors import ResMTNetError
from resmtnet.files import atomic_folder

OHIF = "@ohif/app@3.13.2"
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PASSED_ON = ("accept", "content-type")
_START_S = 20.0


def ohif_folder(cache: Path) -> Path:
    """Return the folder of OHIF's pages, downloaded from the npm registry if it is missing.

    Args:
        cache: where it is kept.

    Raises:
        ResMTNetError: npm is not installed, or the registry does not answer.
    """
    folder = cache / OHIF.removeprefix("@").replace("/", "-").replace("@", "-")
    if (folder / "index.html").is_file():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise ResMTNetError("OHIF comes from the npm registry: install npm (Debian: npm)")
    cache.mkdir(parents=True, exist_ok=True)
    told = subprocess.run(
        [npm, "pack", "--silent", OHIF], cwd=cache, capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise ResMTNetError(f"npm pack {OHIF} failed: {told.stderr.strip()[-500:]}")
    archive = cache / told.stdout.strip().splitlines()[-1]
    with atomic_folder(folder, "index.html") as draft, tarfile.open(archive) as packed:
        for member in packed:
            inside = member.name.removeprefix("package/dist/")
            if member.isfile() and inside != member.name:
                member.name = inside
                packed.extract(member, draft, filter="data")
    archive.unlink()
    return folder


def ohif_site(folder: Path, dicom_web: str) -> Starlette:
    """Return the app.

    Args:
        folder: of OHIF's pages.
        dicom_web: URL of the DICOMweb service.
    """
    client = httpx.AsyncClient(timeout=120.0, trust_env=False)

    async def page(request: Request) -> Response:
        path = (folder / request.path_params["path"]).resolve()
        if not path.is_file() or folder.resolve() not in path.parents:
            path = folder / "index.html"  # OHIF itself finds the page of an address
        return FileResponse(path, headers=_ISOLATED)

    async def config(request: Request) -> Response:
        return Response(app_config(), media_type="text/javascript", headers=_ISOLATED)

    async def pacs(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        address = f"{dicom_web}/{request.path_params['path']}{query}"
        headers = {n: request.headers[n] for n in _PASSED_ON if n in request.headers}
        body = await request.body()
        reply = await client.request(request.method, address, headers=headers, content=body)
        kind = reply.headers.get("content-type", "application/octet-stream")
        return Response(
            reply.content, reply.status_code, headers={"content-type": kind, **_ISOLATED}
        )

    @asynccontextmanager
    async def closing_client(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        lifespan=closing_client,
        routes=[
            Route("/app-config.js", config),
            Route("/dicom-web/{path:path}", pacs, methods=["GET", "POST"]),
            Route("/{path:path}", page),
        ],
    )


def app_config() -> str:
    """Return OHIF's app-config.js: one data source, no tour, no dialog that waits for a click."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "dicomweb",
        "configuration": {
            "friendlyName": "PACS",
            "name": "PACS",
            "wadoUriRoot": "/dicom-web",
            "qidoRoot": "/dicom-web",
            "wadoRoot": "/dicom-web",
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "dicomUploadEnabled": False,
            "singlepart": "bulkdata,video",
            "omitQuotationForMultipartRequest": True,
        },
    }
    config = {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "investigationalUseDialog": {"option": "never"},
        "disableConfirmationPrompts": True,
        "defaultDataSourceName": "dicomweb",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(config)};\n"


@contextmanager
def running_site(app: Starlette, port: int) -> Iterator[str]:
    """Serve an app on 127.0.0.1 in a thread, inside the block.

    Raises:
        ResMTNetError: it does not start.
    """
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + _START_S
    while not server.started:
        if time.monotonic() > end or not thread.is_alive():
            raise ResMTNetError(f"The pages of OHIF are not served: is port {port} free?")
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
