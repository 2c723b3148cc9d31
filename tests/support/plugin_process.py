"""Starts the plugin's own code in an interpreter with slicer-core, and a server for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import itk
import numpy as np

from resmtnet.ct import Geometry
from resmtnet.readings.formats.class_mask import write_ct
from resmtnet.server.launch import ServerOptions, free_port, running_server
from scripted_model import made_ct, write_app
from slicer_nodules import own_packages_only

SEGMENTS = ("benign", "malignant", "indeterminate")
NODULES_IJK = {"benign": (8, 8, 6), "malignant": (24, 20, 12), "indeterminate": (38, 30, 17)}
RAS = np.array([-1.0, -1.0, 1.0])
_ANGLE = 0.3
_TURNED = np.array(
    [
        [np.cos(_ANGLE), np.sin(_ANGLE), 0],
        [np.sin(_ANGLE), -np.cos(_ANGLE), 0],
        [0, 0, -1],
    ]
)
FRAMES = {
    "lps": np.eye(3),
    "ras": np.diag([-1.0, -1.0, 1.0]),
    "flipped": np.diag([1.0, -1.0, -1.0]),
    "oblique": _TURNED,
}
"""Columns: the axes of i, j and k in LPS; one study for each."""
PLUGIN = "monailabel/plugins/slicer/MONAILabel"


def grid_of(frame: str) -> Geometry:
    """The grid of a study."""
    return Geometry((48, 40, 24), (0.7, 0.8, 2.0), (20.0, -30.0, 50.0), FRAMES[frame])


def centre_ras(frame: str, name: str) -> list[float]:
    """Where the nodule of a class lies in a study, as Slicer says it."""
    place: list[float] = (grid_of(frame).ijk_to_lps(NODULES_IJK[name]) * RAS).tolist()
    return place


def write_studies(folder: Path) -> Path:
    """A study for each frame; ras is a NIfTI file, the others are NRRD."""
    folder.mkdir()
    for frame in FRAMES:
        ct = made_ct(grid_of(frame), NODULES_IJK)
        write_ct(ct, folder / f"{frame}.nrrd")
    itk.imwrite(itk.imread(str(folder / "ras.nrrd")), str(folder / "ras.nii.gz"))
    (folder / "ras.nrrd").unlink()
    return folder


class Plugin:
    """The plugin of one reader."""

    def __init__(self, process: subprocess.Popen[str], complaints: Path) -> None:
        self._process, self._complaints = process, complaints

    def __call__(self, do: str, **step: Any) -> dict[str, Any]:
        """Do a step; return what the reader sees then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **step}) + "\n")
        self._process.stdin.flush()
        answers = (line for line in self._process.stdout if line.startswith("RESULT "))
        answer = next(answers, None)
        assert answer is not None, self._complaints.read_text()[-3000:]
        seen: dict[str, Any] = json.loads(answer.removeprefix("RESULT "))
        assert "failed" not in seen, seen["failed"]
        return seen

    def open(self, frame: str) -> dict[str, Any]:
        """Open a study that the server offers."""
        suffix = ".nii.gz" if frame == "ras" else ".nrrd"
        return self("take", image=frame, name=f"{frame}{suffix}")


@contextmanager
def running_plugin(python: Path, url: str, folder: Path, reader: str) -> Iterator[Plugin]:
    """The plugin, connected to a server.

    Args:
        python: the interpreter with slicer-core.
        url: of the server.
        folder: for files.
        reader: who uses it.
    """
    complaints, script = (
        folder / "plugin.txt",
        Path(__file__).parents[1] / "slicer" / "plugin_session.py",
    )
    command = [str(python), str(script), str(Path(sys.prefix) / PLUGIN), str(folder), url]
    with (
        complaints.open("w") as file,
        subprocess.Popen(
            command,
            env=own_packages_only(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        plugin = Plugin(process, complaints)
        options = {
            "MONAILabel/autoRunSegmentationOnNextSample": False,
            "MONAILabel/clientId": reader,
        }
        plugin("settings", **options)
        plugin("connect")
        yield plugin
        process.kill()


@contextmanager
def running_site(
    folder: Path, checkout: Path, as_for_pacs: bool = False, **conf: str
) -> Iterator[str]:
    """A server of the studies with the scripted model; gives its URL."""
    app = write_app(folder / "app", checkout, as_for_pacs)
    studies = write_studies(folder / "studies")
    conf = {"sessions": "true", **conf}
    options = ServerOptions(str(studies), port=free_port(), app_dir=app, conf=conf)
    with running_server(options, timeout_s=240.0) as url:
        yield url


def filled(seen: dict[str, Any]) -> dict[str, int]:
    """Voxels of the segments that have any."""
    found = seen["segments"]
    return {name: found[name]["voxels"] for name in found if found[name]["voxels"]}
