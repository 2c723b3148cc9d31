"""`resmtnet purge`: deletes what is kept of a patient, and says what it cannot delete."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.audit import audit, keep_audit_log
from resmtnet.cli.output import JsonOption, echo, print_json
from resmtnet.cli.readings import open_readings
from resmtnet.cli.site import DatabaseOption, StudiesOption, database_of

if TYPE_CHECKING:
    from resmtnet.types import Json

NOT_DELETED = (
    "not deleted: the images themselves, what was stored in a PACS and the list of it, backups of "
    "the readings, exports, and versions of the model that were trained on these readings "
    "(`resmtnet model list`)"
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
    from resmtnet.cli import purge_files as files
    from resmtnet.readings.patients import names_of

    path = database_of(studies, database)
    in_pacs = studies is not None and studies.startswith(("http://", "https://"))
    folder = None if studies is None or in_pacs else Path(studies).expanduser()
    # Of a PACS, all that is here is copies.
    copies = [] if folder else files.pacs_caches()
    names = names_of(patient)
    images = {image for place in (folder, *copies) if place for image in files.images(place, names)}
    found: Json = {"images": sorted(images), "readings": 0, "masks": 0, "labels": 0, "series": 0}
    if path.is_file():
        with open_readings(studies, database) as store:
            gone = store.purge(names, images, dry_run=dry_run)
        images |= gone.images
        found |= {"images": sorted(images), "readings": gone.readings, "masks": gone.masks}
    # Studies that cannot be written have their labels beside the database.
    places = [*([folder] if folder else copies), *files.places_beside(path)]
    labels = [label for place in places for label in files.labels(place, images)]
    series = [one for place in copies for one in files.series(place, images)]
    found |= {"labels": len(labels), "series": len(series), "deleted": not dry_run}
    found["note"] = NOT_DELETED
    if not dry_run:
        files.delete([*labels, *series])
        for place in places:
            files.forget_in_list(place, images, with_image=place in copies)
        files.forget_answers(path.parent, images)
        files.forget_upload_names(path.parent, images)
        files.empty_caches(path.parent)
        keep_audit_log(path.parent)
        counts = {name: found[name] for name in ("readings", "masks", "labels", "series")}
        audit("patient purged", user=getpass.getuser(), **counts)
    if as_json:
        print_json(found)
        return
    verb = "would be deleted" if dry_run else "deleted"
    echo(
        f"{found['readings']} readings, {found['masks']} masks, {found['labels']} labels and "
        f"{found['series']} series from the PACS of {len(images)} images {verb}"
    )
    echo(NOT_DELETED)
