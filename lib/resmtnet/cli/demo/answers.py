"""Sends one CT to each model of the server; shows tables, a picture and files for Slicer."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import itk
import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resmtnet.cli.display import findings_table, save_overlay, warning_lines
from resmtnet.ct import CTVolume
from resmtnet.ct.image_file import image_suffix
from resmtnet.ct.series_index import SeriesIndex
from resmtnet.errors import InputError, PointError, VolumeError
from resmtnet.monai_label.client import AppClient
from resmtnet.types import Json, Point


@dataclass(frozen=True)
class Study:
    """The study of the demo."""

    folder: Path
    points_lps_mm: tuple[Point, ...] = ()
    """Clicks; none: the candidates that the first model finds."""
    truth: tuple[Json, ...] = ()
    """True values of the phantom's nodules, in the order of the points."""
    image_id: str | None = None
    """Id of the CT; None: the first that contains the points."""


def show_answers(
    client: AppClient, study: Study, image_id: str, ct: CTVolume, out: Path, console: Console
) -> None:
    """Ask the three models and show their answers.

    Args:
        client: of the server.
        study: what is asked about.
        image_id: of its CT.
        ct: the same CT.
        out: folder for the picture, the mask and the markups.
        console: is told.

    Raises:
        ResMTNetError: the server refuses.
    """
    console.print(f"CT: {image_id}, {ct.geometry.size_ijk} voxels of {ct.geometry.spacing_mm} mm")
    clicked = bool(study.points_lps_mm) and not study.truth
    points = voxels(ct, study.points_lps_mm)
    _, document = _ask(client, "resmtnet", image_id, points if clicked else [], console)
    _show(
        "resmtnet: " + ("the point" if clicked else "candidates of the whole CT"), document, console
    )
    if not points:
        points = [[round(x) for x in nodule["centre_ijk"]] for nodule in document["nodules"]]
    if not points:
        console.print("No candidate was found. Give a point to click with AT=x,y,z (LPS mm).")
        return
    mask_file, document = _ask(client, "resmtnet_click", image_id, points, console)
    _show("resmtnet_click: the clicked points", document, console)
    if study.truth:
        console.print(_truth_table(study.truth, document))
    markups_file, _ = _ask(client, "resmtnet_findings", image_id, points, console)
    markups = json.loads(markups_file.read_text("utf-8"))
    _keep(out, mask_file, markups_file, document)
    picture = out / "overlay.png"
    save_overlay(picture, ct, document, _read_mask(mask_file), long_axes(markups))
    console.print(
        f"{picture} shows the masks; mask and markups for 3D Slicer are in the same folder."
    )
    for line in warning_lines(document):
        console.print(f"[dim]{line}[/]", highlight=False)


def _ask(
    client: AppClient, model: str, image_id: str, points: Sequence[Sequence[int]], console: Console
) -> tuple[Path, Json]:
    started = time.perf_counter()
    file, document = client.infer(model, image_id, points)
    console.print(f"{model}: answered in {time.perf_counter() - started:.2f} s")
    return file, document


def _show(title: str, document: Json, console: Console) -> None:
    console.print(findings_table(document, title))


def _truth_table(truth: Sequence[Json], document: Json) -> Table:
    title = "Synthetic nodules: true and measured values"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("Nodule", "Texture", "Diameter mm", "measured", "Volume mm3", "measured"):
        table.add_column(heading, justify="right")
    for nodule, found in zip(truth, document["nodules"], strict=True):
        cells = [found["id"], nodule["texture"]]
        for name, digits in (("mean_diameter_mm", 1), ("volume_mm3", 0)):
            measured = found["size"][name]
            cells.append(f"{nodule[name]:.{digits}f}")
            cells.append("-" if measured is None else f"{measured:.{digits}f}")
        table.add_row(*cells)
    return table


def _keep(out: Path, mask_file: Path, markups_file: Path, document: Json) -> None:
    suffix = image_suffix(mask_file) or mask_file.suffix
    shutil.copyfile(mask_file, out / f"mask{suffix}")
    shutil.copyfile(markups_file, out / "findings.mrk.json")
    (out / "findings.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def choose_ct(image_ids: Sequence[str], study: Study) -> tuple[str, CTVolume]:
    """Return the first CT of a study that contains its points.

    Args:
        image_ids: what the server lists.
        study: what is asked about.

    Raises:
        InputError: there is none.
    """
    paths = _ct_paths(study.folder)
    readable = 0
    for image_id in image_ids:
        if image_id not in paths or study.image_id not in (None, image_id):
            continue
        try:
            ct = CTVolume.open(paths[image_id])
        except VolumeError:
            continue
        readable += 1
        if all(ct.geometry.contains(point) for point in study.points_lps_mm):
            return image_id, ct
    if readable:
        raise PointError(f"AT={study.points_lps_mm[0]} (LPS mm) lies in none of the {readable} CTs")
    raise InputError(f"{study.folder}: no readable CT among {len(image_ids)} images")


def _ct_paths(folder: Path) -> dict[str, Path]:
    """Return what CTVolume.open takes for each image of a folder, by the id the server gives it."""
    index = SeriesIndex(folder)
    index.refresh()
    paths = dict(index.series)
    for path in sorted(folder.iterdir()):
        suffix = image_suffix(path)
        if suffix:
            paths.setdefault(path.name[: -len(suffix)], path)
    return paths


def voxels(ct: CTVolume, points_lps_mm: Sequence[Point]) -> list[list[int]]:
    """Return points as the voxel indices (i, j, k) that a viewer sends."""
    last = np.asarray(ct.geometry.size_ijk) - 1
    indices = [np.rint(ct.geometry.lps_to_ijk(point)).astype(int) for point in points_lps_mm]
    return [np.clip(index, 0, last).tolist() for index in indices]


def long_axes(markups: Json) -> dict[str, list[list[float]]]:
    """Return the ends of each nodule's long axis, LPS mm, from Slicer Markups.

    >>> ends = [{"position": [0, 0, 0]}, {"position": [3, 4, 0]}]
    >>> long_axes({"markups": [{"type": "Line", "name": "N1 long axis", "controlPoints": ends}]})
    {'N1': [[0, 0, 0], [3, 4, 0]]}
    """
    return {
        node["name"].split()[0]: [point["position"] for point in node["controlPoints"]]
        for node in markups["markups"]
        if node["type"] == "Line" and len(node["controlPoints"]) == 2
    }


def _read_mask(path: Path) -> NDArray[np.uint8]:
    mask: NDArray[np.uint8] = itk.array_from_image(itk.imread(str(path))).astype(np.uint8)
    return mask
