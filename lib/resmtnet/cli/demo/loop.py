"""Shows the correction loop on synthetic studies: correct, train, compare, get the next study."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.cli.demo.patients import DemoStudy
from resmtnet.cli.demo.reader import HABITS, READER, correction
from resmtnet.errors import ResMTNetError
from resmtnet.monai_label.client import AppClient
from resmtnet.types import Json

CLICK, STRATEGY = "resmtnet_click", "resmtnet_informative"
UNREAD = 2
"""Number of patients whose studies nobody corrects."""
OPTIONS = {
    "min_patients": 5,
    "min_patients_of_weights": 5,
    "replay_share": 0.05,
    "score_margin": 0.1,
    "size_margin": 0.1,
}
"""Options of the training; a real site needs 15 to 25 patients, replays more, allows less."""
SHOWN = 8
"""Nodules in the table; the means below it include all."""
SHORT = 12
"""Greatest length of an image id in the table."""
AXIS = "long_axis_mm"
POLL_S = 2.0
NOTE = (
    "Classes of synthetic nodules have no meaning, and the reader is a rule: this shows that the "
    "parts work together, not how well."
)


@dataclass(frozen=True)
class Corrected:
    """A nodule with the model's answer and the reader's correction."""

    name: str
    before: Json
    """Entry of "nodules" in findings/1."""
    said: Json
    """Fields of resmtnet.reading/1."""


def show_loop(
    client: AppClient, shown: DemoStudy, patients: Sequence[DemoStudy], console: Console
) -> None:
    """Correct, train, ask again, and ask for the next study.

    Args:
        client: of the server, in the name of the reader.
        shown: the study that was asked about.
        patients: further studies; the last ones stay unread. In the last one that is read, two
            nodules are corrected by a mask.
        console: shows what happens.

    Raises:
        ResMTNetError: the server refuses, or the training fails.
    """
    console.print("\n[bold]Corrections, a model trained on them, and the next study[/]")
    console.print(HABITS)
    *posted, last = [shown, *patients[:-UNREAD]]
    masked = replace(last, points_lps_mm=last.points_lps_mm[:2])
    read = [masked, *posted]
    corrected = correct_by_mask(client, masked, console)
    for case in posted:
        corrected += correct_by_post(client, case, console)
    train(client, console)
    console.print(versions_table(client.versions()))
    offered = client.next_study(STRATEGY)
    again = [_asked(client, case)[1] for case in read]
    answers = [nodule for document in again for nodule in document["nodules"]]
    console.print(gain_table(corrected, answers, again[0]["model"]["version"]))
    for offer in (offered, client.next_study(STRATEGY)):
        _say(_offer_line(offer), console)
    console.print(NOTE)


def correct_by_mask(client: AppClient, case: DemoStudy, console: Console) -> list[Corrected]:
    """Submit the mask of an answer with renamed segments, as 3D Slicer does."""
    mask, document = _asked(client, case)
    corrected = _corrected(case, document)
    names = {value: name for name, value in LABEL_NAMES.items()}
    for one in corrected:
        said = f"{one.said['class']} malignancy={one.said['malignancy']}"
        before = one.before["class"]["name"]
        _say(f"{case.image_id}: segment '{before}' renamed to '{said}'", console)
        names[one.before["mask_value"]] = said
    info = [{"name": name, "idx": value} for value, name in sorted(names.items())]
    reply = client.save_label(case.image_id, mask, label_info=info)
    _print_understood(case.image_id, reply["understood"], console)
    for problem in reply["not_understood"]:
        _say(f"  not understood: {problem['what']} {problem['why']}", console)
    # the outlines are unchanged, so the sizes are not corrected
    return [replace(one, said={**one.said, "size": {}}) for one in corrected]


def correct_by_post(client: AppClient, case: DemoStudy, console: Console) -> list[Corrected]:
    """Send a reading of each nodule to POST /resmtnet/readings."""
    corrected = _corrected(case, _asked(client, case)[1])
    understood = []
    for one in corrected:
        place = {"image": case.image_id, "centre_lps_mm": one.before["centre_lps_mm"]}
        reply = client.post_reading({"reader": READER, **place, **one.said})
        understood.append(reply["understood"])
    _print_understood(case.image_id, understood, console)
    return corrected


def train(client: AppClient, console: Console) -> None:
    """Train as the viewers do, and show the result.

    Raises:
        ResMTNetError: the training failed.
    """
    _say(f"Training, with {', '.join(f'{k}={v}' for k, v in OPTIONS.items())} ...", console)
    client.start_training(**OPTIONS)
    told = ""
    while client.is_training():
        now = _progress(client.train_stats())
        if now not in ("", told):
            _say(f"  {now}", console)
        told = now
        time.sleep(POLL_S)
    stats = client.train_stats()
    if stats["verdict"] not in ("published", "kept"):
        raise ResMTNetError(f"the training: {stats['verdict']}: {stats['reason']}")
    _say(f"The gate, after {stats['total_time']}: {stats['reason']}", console)
    _say(f"{stats['readings']} readings; version {stats['version']} answers now.", console)


def versions_table(versions: Sequence[Json]) -> Table:
    """Return the versions of the model, the oldest first."""
    table = _table("Versions", "Name", "Version", "Trained from", "Readings", "Served")
    for version in versions:
        cells = (version["name"], version["version"], version["parent"], version["readings"])
        table.add_row(*("-" if c is None else str(c) for c in cells), "*" * version["served"])
    return table


def gain_table(corrected: Sequence[Corrected], answers: Sequence[Json], version: str) -> Table:
    """Return a table of nodules: the answer before, the correction, and the answer now.

    Args:
        corrected: of the reader.
        answers: entries of "nodules" for the same nodules, of the version served now.
        version: of the model, now.
    """
    headings = ("Score", "reader", "now", "Long axis mm", "reader", "now")
    table = _table(f"The corrected nodules again, by version {version}", "Nodule", *headings)
    for one, now in list(zip(corrected, answers, strict=True))[:SHOWN]:
        score = (one.before["malignancy"]["score"], one.said["malignancy"])
        axis = (one.before["size"][AXIS], one.said["size"].get(AXIS), now["size"][AXIS])
        cells = [_number(score[0], 2), str(score[1]), _number(now["malignancy"]["score"], 2)]
        table.add_row(one.name, *cells, *(_number(mm, 1) for mm in axis))
    was, is_now = (_distance(corrected, a) for a in ([one.before for one in corrected], answers))
    table.add_section()
    table.add_row(
        f"All {len(corrected)}: off by",
        *(f"{was[0]:.2f}", "", f"{is_now[0]:.2f}"),
        *(f"{100 * was[1]:.1f}%", "", f"{100 * is_now[1]:.1f}%"),
    )
    table.caption = "Axes are measured on the mask: corrected sizes do not change them."
    return table


def _asked(client: AppClient, case: DemoStudy) -> tuple[Path, Json]:
    return client.infer(CLICK, case.image_id, case.points_ijk)


def _corrected(case: DemoStudy, document: Json) -> list[Corrected]:
    image = case.image_id if len(case.image_id) < SHORT else f"{case.image_id[:SHORT]}..."
    return [Corrected(f"{image} {n['id']}", n, correction(n)) for n in document["nodules"]]


def _print_understood(image_id: str, understood: Sequence[str], console: Console) -> None:
    _say(f"{image_id}: understood", console)
    for line in understood:
        _say(f"  {line}", console)


def _progress(stats: Json) -> str:
    if stats["verdict"] != "running":
        return ""
    if stats.get("stage") == "epochs":
        return f"epoch {stats['epoch']} of {stats['total_epochs']}"
    return f"nodules prepared: {stats['nodules']}" if stats.get("nodules") else ""


def _offer_line(offer: Json) -> str:
    if not offer:
        return "Next study: none left."
    return f"Next study: {offer['id']} ({offer['active_learning']['why']})"


def _distance(corrected: Sequence[Corrected], answers: Sequence[Json]) -> tuple[float, float]:
    """Return the mean distance of answers from corrections: levels, and share of the long axis."""
    pairs = list(zip(corrected, answers, strict=True))
    levels = [a["malignancy"]["score"] - one.said["malignancy"] for one, a in pairs]
    shares = [
        a["size"][AXIS] / one.said["size"][AXIS] - 1
        for one, a in pairs
        if a["size"][AXIS] and AXIS in one.said["size"]
    ]
    return float(np.abs(levels).mean()), float(np.abs(shares).mean())


def _say(line: str, console: Console) -> None:
    """Print a line as it is, without markup or coloured numbers."""
    console.print(line, markup=False, highlight=False)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for n, heading in enumerate(headings):
        table.add_column(heading, justify="right" if n else "left")
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
