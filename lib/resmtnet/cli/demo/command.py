"""The demo: starts a server and shows its answers; on synthetic studies also corrections.

Synthetic studies are corrected by a made-up reader, and the model is trained on the corrections.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from resmtnet.cli.demo.answers import Study, choose_ct, show_answers
from resmtnet.cli.demo.loop import show_loop
from resmtnet.cli.demo.patients import DemoStudy, write_patients
from resmtnet.cli.demo.reader import READER
from resmtnet.cli.points import parse_point
from resmtnet.ct.phantom import write_study_folder
from resmtnet.errors import InputError, ResMTNetError
from resmtnet.monai_label.client import AppClient
from resmtnet.server.launch import ServerOptions, free_port, running_server
from resmtnet.types import Point

CONTEXT = "screening_baseline"
"""Guideline context of the demo: Lung-RADS v2022."""
MAX_CANDIDATES = 5
START_S = 240.0
"""How long the server may take to start; usually ten seconds."""
NOTE = "Estimates of what readers would say; no diagnosis, not a medical device."


def run(studies: Path | None, at: Point | None, out: Path, console: Console) -> None:
    """Run the demo.

    Args:
        studies: folder with CTs, to which MONAI Label writes its list of images and nothing else
            is written; None: synthetic ones are written, corrected and trained on.
        at: a click, LPS mm; None: the nodules of the phantom, or the candidates of the CT.
        out: folder for the picture and the answers, and for synthetic studies.
        console: shows what happens.

    Raises:
        InputError: no CT in the folder or at the point, or another folder is in the way.
        ResMTNetError: the server does not start, or refuses.
    """
    out.mkdir(parents=True, exist_ok=True)
    patients: list[DemoStudy] = []
    if studies:
        study = Study(studies, (at,) if at else ())
    else:
        study = _phantom(out, console)
        patients = write_patients(study.folder)
    conf = {"context": CONTEXT, "max_candidates": str(MAX_CANDIDATES)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as files:
        if studies:
            console.print("This run sends no corrections and trains nothing.")
            conf["readings"] = str(Path(files) / "site" / "readings.sqlite")
        options = ServerOptions(str(study.folder), port=free_port(), conf=conf)
        console.print(f"Starting MONAI Label on {options.url} ...")
        started = time.perf_counter()
        with running_server(options, START_S) as url:
            console.print(f"The server answers after {time.perf_counter() - started:.1f} s.")
            client = AppClient(url, Path(files))
            image_id, ct = choose_ct(client.image_ids(), study)
            show_answers(client, study, image_id, ct, out, console)
            if patients:
                shown = DemoStudy(image_id, ct, study.points_lps_mm)
                show_loop(AppClient(url, Path(files), READER), shown, patients, console)
    console.print("The server is stopped.")
    console.print(NOTE)


def _phantom(out: Path, console: Console) -> Study:
    """Write the study that is shown, into a new folder."""
    folder = out / "studies"
    clear(folder)
    console.print(f"Writing synthetic chest CTs with known nodules to {folder} ...")
    paths = write_study_folder(folder, seed=0, format="dicom")
    truth = json.loads(paths.truth.read_text("utf-8"))
    points = tuple(_point(nodule["centre_lps_mm"]) for nodule in truth["nodules"])
    return Study(folder, points, tuple(truth["nodules"]), truth["image_id"])


def clear(folder: Path) -> None:
    """Remove the studies, readings and versions of an earlier demo.

    Raises:
        InputError: the folder was not written by a demo.
    """
    if not folder.exists():
        return
    if not (folder / ".resmtnet" / "phantom-0.truth.json").is_file():
        raise InputError(
            f"{folder} was not written by a demo and is in the way: move it, or give another OUT"
        )
    shutil.rmtree(folder)


def _point(values: Sequence[float]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m resmtnet.cli.demo`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="resmtnet.cli.demo", description=__doc__)
    parser.add_argument("--studies", type=Path, help="folder with CTs; default: synthetic ones")
    parser.add_argument("--at", metavar="X,Y,Z", help="a nodule, LPS mm; default: whole CT")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    given = parser.parse_args(arguments)
    try:
        at = parse_point(given.at, "AT=") if given.at else None
        if at and not given.studies:
            raise InputError("AT is a point of your own CT: give STUDIES=folder as well")
        run(given.studies, at, given.out, Console())
    except ResMTNetError as error:
        print(f"resmtnet: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0
