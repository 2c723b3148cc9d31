"""`resmtnet export sr|seg|text` and `resmtnet retract`: readings as DICOM, and as a text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resmtnet.cli.output import JsonOption, echo, print_json, print_warnings
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.monai_label.pacs_results import PacsResults
    from resmtnet.readings.dicom.nodule import ResultNodule
    from resmtnet.readings.dicom.source_series import SourceSeries
    from resmtnet.readings.inbox import Inbox

StudiesOption = Annotated[
    str,
    typer.Option(metavar="DIR|URL", help="Folder of the studies, or URL of a DICOMweb service."),
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        "--readings", metavar="FILE", help="The database, if it is not at its usual place."
    ),
]
ImageOption = Annotated[
    list[str] | None,
    typer.Option("--image", help="SeriesInstanceUID; may be repeated. Default: all with readings."),
]
FolderOption = Annotated[Path, typer.Option(help="Folder to write the files to.")]

_LONGEST_NAME = 200

LEAST_SERIES_NUMBER = 1000
"""Of an exported object: its series number is above those that scanners give."""


def register(app: typer.Typer, export_app: typer.Typer) -> None:
    """Add the commands of this module."""
    example = "Example: resmtnet export {0} --studies studies/ --out {0}/"
    export_app.command("sr", epilog=example.format("sr"))(export_sr)
    export_app.command("seg", epilog=example.format("seg"))(export_seg)
    export_app.command("text", epilog="Example: resmtnet export text --studies studies/")(
        export_text
    )
    app.command(
        epilog="Example: resmtnet retract --studies http://127.0.0.1:8042/dicom-web --image 1.2.3"
    )(retract)


def export_sr(
    studies: StudiesOption,
    out: FolderOption,
    image: ImageOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what readers say as DICOM SR (TID 1500): a file for each CT and reader."""
    from resmtnet.readings.dicom.sr_write import write_sr

    _export(studies, out, image, database, as_json, "sr", write_sr)


def export_seg(
    studies: StudiesOption,
    out: FolderOption,
    image: ImageOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the nodules of readers as DICOM SEG: a file for each CT and reader."""
    from resmtnet.readings.dicom.seg_write import write_seg

    _export(studies, out, image, database, as_json, "seg", write_seg)


def export_text(
    studies: StudiesOption,
    image: ImageOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a short text of the confirmed nodules of each CT, to copy into a report."""
    from resmtnet.readings.dicom.report_of_image import report_of

    inbox = _inbox(studies, database)
    texts = {one: report_of(inbox, one) for one in _images(inbox, image)}
    if as_json:
        print_json({"reports": texts})
    else:
        echo("\n\n".join(f"{one}\n{text}" for one, text in texts.items()))


def retract(
    studies: StudiesOption,
    image: Annotated[str, typer.Option(help="SeriesInstanceUID of the CT.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw the SEG and SR that the server stored in the PACS: delete, or reject by a note."""
    from dataclasses import asdict

    withdrawn = _results(studies, database).retract(image)
    if as_json:
        print_json({"retracted": [asdict(one) for one in withdrawn]})
        return
    if not withdrawn:
        echo("Nothing was stored of this CT.")
    for one in withdrawn:
        echo(f"{one.kind} {one.sop_instance_uid}: {one.retracted}")


def _results(studies: str, database: Path | None) -> PacsResults:
    from resmtnet.monai_label.pacs_results import PacsResults
    from resmtnet.monai_label.site_images import SiteFiles

    inbox = _inbox(studies, database, must_exist=False)
    assert isinstance(inbox.images, SiteFiles)
    if inbox.images.pacs is None:
        raise InputError(f"--studies {studies}: the URL of a DICOMweb service is needed.")
    return PacsResults(inbox.images.pacs, inbox)


def _inbox(studies: str, database: Path | None, must_exist: bool = True) -> Inbox:
    from resmtnet.monai_label.settings import AppSettings, is_remote
    from resmtnet.monai_label.site_images import SiteFiles
    from resmtnet.readings.inbox import Inbox
    from resmtnet.server.launch import default_app_dir

    app = default_app_dir() if is_remote(studies) else Path()
    path = database or AppSettings().database(app, studies)
    if must_exist and not path.is_file():
        raise InputError(f"there are no readings at {path}: none has been saved yet")
    return Inbox(path, SiteFiles(studies))


def _images(inbox: Inbox, named: Sequence[str] | None) -> list[str]:
    return list(named) if named else sorted(inbox.store.images())


def _export(
    studies: str,
    out: Path,
    images: Sequence[str] | None,
    database: Path | None,
    as_json: bool,
    suffix: str,
    write: Callable[..., Any],
) -> None:
    from resmtnet.readings.dicom.identity import Author, new_place

    inbox = _inbox(studies, database)
    out.mkdir(parents=True, exist_ok=True)
    files, problems = [], []
    for image in _images(inbox, images):
        try:
            by_reader = list(_by_reader(inbox, image))
        except InputError as error:
            problems.append(f"{image}: {error}")
            continue
        for reader, nodules, source in by_reader:
            number = int(source.any.get("SeriesNumber") or 0)
            place = new_place(max(LEAST_SERIES_NUMBER, number))
            file = out / f"{_file_name(image, reader)}.{suffix}.dcm"
            try:
                dataset = write(nodules, source, Author(reader=reader), place)
            except InputError as error:
                problems.append(f"{image}, {reader}: {error}")
                continue
            dataset.save_as(file, write_like_original=False)
            files.append(str(file))
    if as_json:
        print_json({"files": files, "problems": problems})
        return
    print_warnings(problems)
    echo("\n".join(files) if files else "Nothing was written.")


def _file_name(image: str, reader: str) -> str:
    """Return a plain name that no other image or reader has.

    >>> _file_name("1.2", "ann"), _file_name("1.2", "Müller") == _file_name("1.2", "Möller")
    ('1.2-ann', False)
    """
    name = f"{image}-{reader}"
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:_LONGEST_NAME]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _by_reader(inbox: Inbox, image: str) -> Iterator[tuple[str, list[ResultNodule], SourceSeries]]:
    """Each reader of an image with what the reader says in the end."""
    from resmtnet.monai_label.pacs_results import RESULTS
    from resmtnet.readings.dicom.confirmed import confirmed_nodules
    from resmtnet.readings.dicom.results_log import ResultsLog
    from resmtnet.readings.dicom.source_series import SourceSeries

    readings = inbox.store.readings(image)
    if not readings:
        raise InputError("there is no reading of it")
    folder = inbox.images.volume(image)
    ct = inbox.images.open(folder)
    source = SourceSeries.open(folder, ct)
    results = ResultsLog(inbox.database.parent / RESULTS).of(image)
    known = inbox.answers.known(image, None)
    for reader in dict.fromkeys(reading.reader for reading in readings):
        own = [reading for reading in readings if reading.reader == reader]
        nodules = confirmed_nodules(own, image, results, ct.geometry, inbox.store.masks, known)
        yield reader, nodules, source
