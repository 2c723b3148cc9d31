"""The server over a folder of synthetic studies, and what its readings database holds."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom, write_dicom_series, write_nifti
from resmtnet.ct.phantom.files import series_uid

CENTRE = (-75.0, 0.0, 20.0)
SECOND = (-62.0, 14.0, 32.0)
NIFTI = (
    "correct",
    "accept",
    "axes",
    "brush",
    "click",
    "bulk",
    "markup",
    "two",
    "undo",
    "keys",
    "paint",
    "quick",
)
"""One study for each test that changes what is said of it."""
DICOM = "DICOM-REVIEW"


@dataclass(frozen=True)
class ReviewSite:
    """A server, and the studies in it."""

    url: str
    phantom: Phantom
    readings_file: Path

    @property
    def series(self) -> str:
        """Id of the study that is a DICOM series."""
        return series_uid(self.phantom, DICOM)

    def case(self, image: str, query: str = "") -> str:
        """Address of a case."""
        return f"{self.url}/resmtnet/case/{urllib.parse.quote(image, safe='')}{query}"

    def ask(self, path: str, body: Any = None, form: bool = False) -> Any:
        """Ask the server; returns its JSON."""
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        data = None
        if body is not None:
            data = (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=240) as reply:
            return json.loads(reply.read())

    def answer(self, image: str, *places: Any, client: str = "seed") -> Any:
        """Let the model answer places of a study, as a viewer does."""
        points = [
            [round(float(x)) for x in self.phantom.geometry.lps_to_ijk(place)]
            for place in places or (CENTRE,)
        ]
        params = json.dumps({"foreground": points, "client_id": client})
        path = f"/infer/resmtnet_click?image={urllib.parse.quote(image)}&output=json"
        return self.ask(path, {"params": params}, form=True)

    def said(self, image: str, reader: str = "Ann", every: bool = True) -> list[Any]:
        """The readings of a study, as they are in the database."""
        query = {"image": image, "reader": reader, "every": str(every).lower()}
        found = self.ask(f"/resmtnet/readings?{urllib.parse.urlencode(query)}")
        return list(found["readings"])


def write_studies(folder: Path) -> Phantom:
    """Write the studies: NIfTI files and one DICOM series, all of one phantom of two nodules."""
    nodules = [
        NoduleSpec(10.0, "solid", centre_lps_mm=CENTRE),
        NoduleSpec(8.0, "solid", centre_lps_mm=SECOND),
    ]
    phantom = make_phantom(seed=3, shape_kji=(64, 120, 120), nodules=nodules, centre_lps_mm=CENTRE)
    first = folder / f"{NIFTI[0]}.nii.gz"
    write_nifti(phantom, first)
    for name in NIFTI[1:]:
        (folder / f"{name}.nii.gz").write_bytes(first.read_bytes())
    write_dicom_series(phantom, folder / DICOM, DICOM)
    return phantom
