"""`resmtnet purge`: deletes what is kept of a patient, and says what it cannot delete."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.cli.output import JsonOption, print_json
from resmtnet.cli.readings import open_readings
from resmtnet.cli.site import DatabaseOption, StudiesOption, database_of

if TYPE_CHECKING:
    from resmtnet.types import Json

NOT_DELETED = (
    "not deleted: the images themselves, backups of the readings, exports, and versions of the "
    "model that were trained on these readings (`resmtnet model list`)"
)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: resmtnet purge --studies studies/ --patient P123 --dry-run")(purge)


def purge(
    patient: Annotated[
        list[str], typer.Option(help="PatientID or pseudonym; may be repeated.", min=1)
    ],
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the readings, masks, labels, answers and cached CTs of a patient.

    A tombstone keeps the place of each reading in the order of arrival, without what it said. The
    next training is without them. Caches of all patients are emptied, since they are made anew.
    """
    from resmtnet.readings.patients import names_of

    path = database_of(studies, database)
    in_pacs = studies is not None and studies.startswith(("http://", "https://"))
    folder = None if studies is None or in_pacs else Path(studies).expanduser()
    names = names_of(patient)
    images = _images(folder, names) if folder else set()
    found: Json = {"images": sorted(images), "readings": 0, "masks": 0, "labels": 0}
    if path.is_file():
        with open_readings(studies, database) as store:
            gone = store.purge(names, images, dry_run=dry_run)
        images |= gone.images
        found |= {"images": sorted(images), "readings": gone.readings, "masks": gone.masks}
    labels = _labels(folder, images) if folder else []
    found |= {"labels": len(labels), "deleted": not dry_run, "note": NOT_DELETED}
    if not dry_run:
        for label in labels:
            label.unlink(missing_ok=True)
        _forget(path.parent, images)
        _empty_caches(path.parent)
    if as_json:
        print_json(found)
        return
    verb = "would be deleted" if dry_run else "deleted"
    typer.echo(
        f"{found['readings']} readings, {found['masks']} masks and {found['labels']} labels of "
        f"{len(images)} images {verb}"
    )
    typer.echo(NOT_DELETED)


def _images(studies: Path, names: set[str]) -> set[str]:
    """Return the ids of the images in a folder that are of the patient."""
    from resmtnet.ct.image_file import image_suffix
    from resmtnet.ct.series_index import SeriesIndex
    from resmtnet.readings.location import DATABASE
    from resmtnet.readings.patients import patient_of

    index = SeriesIndex(studies, left_out=frozenset({"labels", DATABASE.parts[0]}))
    index.refresh()
    found = {uid for uid, folder in index.series.items() if patient_of(folder) in names}
    if studies.is_dir():
        for file in studies.iterdir():
            suffix = image_suffix(file)
            if suffix is not None and file.name[: -len(suffix)] in names:
                found.add(file.name[: -len(suffix)])
    return found


def _labels(studies: Path, images: set[str]) -> list[Path]:
    """Return the label files of images."""
    files = studies.glob("labels/*/*")
    return [f for f in files if f.is_file() and any(_is_of(f.name, image) for image in images)]


def _is_of(name: str, image: str) -> bool:
    from resmtnet.ct.image_file import image_suffix

    suffix = image_suffix(Path(name)) or Path(name).suffix
    return name[: -len(suffix) or None] == image


def _forget(site: Path, images: set[str]) -> None:
    from resmtnet.active.study_scores import SCORES, StudyScores
    from resmtnet.page.blinding import FILE as BLINDING
    from resmtnet.page.blinding import Blinding
    from resmtnet.readings.answer_log import AnswerLog
    from resmtnet.readings.inbox import ANSWERS

    answers, scores = AnswerLog(site / ANSWERS), StudyScores(site / SCORES)
    Blinding(site / BLINDING, lambda image: ()).forget(images)
    for image in images:
        answers.forget(image)
        scores.forget(image)


def _empty_caches(site: Path) -> None:
    """Delete decoded CTs, downloads, and what trainings keep of nodules: all can be made again."""
    from resmtnet.ct.cache import cache_folder
    from resmtnet.retraining.nodule_cache import CROPS, OBSERVATIONS

    shared = [cache_folder() / name for name in ("volumes", "downloads")]
    for folder in (*shared, site / OBSERVATIONS, site / CROPS):
        with suppress(OSError):
            shutil.rmtree(folder)
