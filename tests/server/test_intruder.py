"""The list of holes against both servers that can serve the app, and a part of the fuzzing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import fuzz_api
import fuzz_uploads
import intruder
from damaged_files import nifti_files
from resmtnet.ct.phantom import Phantom, write_nifti
from resmtnet.server.launch import OUR_APP, PLAIN_APP, ServerOptions, free_port, running_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def temporary() -> Path:
    """The folder in which the servers of this file get theirs for temporary files."""
    return Path(tempfile.gettempdir())


@pytest.fixture(scope="module", params=[OUR_APP, PLAIN_APP], ids=["ours", "plain"])
def url(
    request: pytest.FixtureRequest,
    phantom: Phantom,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    studies = tmp_path_factory.mktemp("intruder") / "studies"
    write_nifti(phantom, studies / "phantom.nii.gz")
    (studies / f"{fuzz_uploads.IMAGE}.nii.gz").write_bytes(nifti_files(".nii.gz")["ct.nii.gz"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        options = ServerOptions(str(studies), port=free_port(), uvicorn_app=request.param)
        with running_server(options, timeout_s=240.0) as address:
            patch.undo()
            yield address


def test_no_hole_is_open_and_no_upload_is_left_behind(url: str, temporary: Path) -> None:
    before = set(temporary.rglob("*"))  # MONAI Label's own, made at the start
    results: list[tuple[str, str, Any]] = list(intruder.intrude(url, patience_s=120.0))
    assert [(name, r.told) for _, name, r in results if r.state == "open"] == []
    assert sum(r.state == "closed" for _, _, r in results) > 40
    left = [p.name for p in temporary.rglob("*") if p not in before and p.is_file()]
    assert left == []


def test_no_request_made_from_the_openapi_gets_an_error_500_or_plain_text(url: str) -> None:
    found = fuzz_api.Found(longest_s=120.0)
    fuzz_api.fuzz(url, found, each=2, rounds=1)
    assert found.statuses.total() > 60
    assert found.to_json()["defects"] == {}


def test_the_server_lives_through_damaged_files(url: str, temporary: Path) -> None:
    before = set(temporary.rglob("*"))
    found = fuzz_uploads.Found(longest_s=120.0)
    with httpx.Client(base_url=url, timeout=120.0) as http:
        for _ in fuzz_uploads.TURNS:
            found.send(http)
        assert http.get("/info/").status_code == 200
    assert found.defects == []
    assert [p.name for p in temporary.rglob("*") if p not in before and p.is_file()] == []
