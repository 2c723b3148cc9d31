"""The list of holes against both servers that can serve the app."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resmtnet.ct.phantom import Phantom, write_nifti
from resmtnet.server.launch import OUR_APP, PLAIN_APP, ServerOptions, free_port, running_server

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import intruder

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for temporary files of a server."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module", params=[OUR_APP, PLAIN_APP], ids=["ours", "plain"])
def url(
    request: pytest.FixtureRequest,
    phantom: Phantom,
    temporary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    studies = tmp_path_factory.mktemp("intruder") / "studies"
    write_nifti(phantom, studies / "phantom.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        options = ServerOptions(str(studies), port=free_port(), uvicorn_app=request.param)
        with running_server(options, timeout_s=240.0) as address:
            patch.undo()
            yield address


def test_no_hole_is_open_and_no_upload_is_left_behind(url: str, temporary: Path) -> None:
    before = set(temporary.rglob("*"))  # MONAI Label's own, made at the start
    results: list[tuple[str, str, Any]] = list(intruder.intrude(url))
    assert [(name, r.told) for _, name, r in results if r.state == "open"] == []
    assert sum(r.state == "closed" for _, _, r in results) > 40
    left = [p.name for p in temporary.rglob("*") if p not in before and p.is_file()]
    assert left == []
