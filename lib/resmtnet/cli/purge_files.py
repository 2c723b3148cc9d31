"""What is kept of images in files: labels, answers, caches and the copies of a PACS."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from resmtnet.ct.dicom_header import is_uid
from resmtnet.files import atomic_file

LIST, PREVIOUS_LIST = "datastore_v2.json", "datastore_v2.previous.json"
"""Of images and labels, see `monai_label.shared_list`."""


def images(studies: Path, names: set[str]) -> set[str]:
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


def labels(studies: Path, of: set[str]) -> list[Path]:
    """Return the label files of images."""
    files = studies.glob("labels/*/*")
    return [f for f in files if f.is_file() and any(_is_of(f.name, image) for image in of)]


def _is_of(name: str, image: str) -> bool:
    from resmtnet.ct.image_file import image_suffix

    suffix = image_suffix(Path(name)) or Path(name).suffix
    return name[: -len(suffix) or None] == image


def series(cache: Path, of: set[str]) -> list[Path]:
    """Return what a cache of a PACS holds of series: their folders and their downloads.

    Also downloads that a server which was killed has left unfinished.
    """
    from resmtnet.readings.patients import header_texts

    names = [name for image in of if is_uid(image) for name in (image, f"{image}.nrrd")]
    unfinished = [
        part
        for part in cache.glob(".download-*")
        if header_texts(part, ("SeriesInstanceUID",)).get("SeriesInstanceUID") in of
    ]
    return [cache / name for name in names if (cache / name).exists()] + unfinished


def places_beside(database: Path) -> list[Path]:
    """Return where lists and labels of studies that cannot be written are, beside a database."""
    return [path for path in sorted(database.parent.glob("labels-*")) if (path / LIST).is_file()]


def pacs_caches() -> list[Path]:
    """Return the folders in which servers keep series of a PACS, one for each PACS."""
    named = os.environ.get("MONAI_LABEL_DICOMWEB_CACHE_PATH")
    above = Path(named) if named else Path.home() / ".cache" / "monailabel" / "dicom"
    return [path for path in sorted(above.glob("*/")) if (path / LIST).is_file()]


def delete(paths: Iterable[Path]) -> None:
    """Delete files, and folders with all that they hold."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def forget_in_list(folder: Path, of: set[str], with_image: bool) -> None:
    """Take labels, and images if asked for, out of MONAI Label's list and the one before it.

    A server that runs takes the change over. A list that cannot be read is left to the server.
    """
    for name in (LIST, PREVIOUS_LIST):
        path = folder / name
        with FileLock(folder / ".lock"):
            try:
                document = json.loads(path.read_bytes())
                objects = document["objects"]
                entries = [objects[image] for image in of if image in objects]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            for entry in entries:
                entry["labels"] = {}
            if with_image:
                document["objects"] = {n: one for n, one in objects.items() if n not in of}
            if entries:
                with atomic_file(path, private=True) as draft:
                    draft.write_text(json.dumps(document, indent=2))


def forget_answers(site: Path, of: set[str]) -> None:
    """Delete what the model has answered, how informative an image is, and who has seen it."""
    from resmtnet.active.study_scores import SCORES, StudyScores
    from resmtnet.page.blinding import FILE as BLINDING
    from resmtnet.page.blinding import Blinding
    from resmtnet.readings.answer_log import AnswerLog
    from resmtnet.readings.inbox import ANSWERS

    answers, scores = AnswerLog(site / ANSWERS), StudyScores(site / SCORES)
    Blinding(site / BLINDING, lambda image: ()).forget(of)
    for image in of:
        answers.forget(image)
        scores.forget(image)


def forget_upload_names(site: Path, of: set[str]) -> None:
    """Delete the names that viewers gave to the images when they uploaded them."""
    from resmtnet.readings.location import UPLOAD_NAMES

    path = site / UPLOAD_NAMES
    try:
        names = json.loads(path.read_bytes())
        left = {name: image for name, image in names.items() if image not in of}
    except (OSError, ValueError, AttributeError):
        return
    if left != names:
        with atomic_file(path, private=True) as draft:
            draft.write_text(json.dumps(left, indent=1))


def empty_caches(site: Path) -> None:
    """Delete decoded CTs, downloads, and what trainings keep of nodules: all can be made again."""
    from resmtnet.ct.cache import cache_folder
    from resmtnet.retraining.nodule_cache import CROPS, OBSERVATIONS

    shared = [cache_folder() / name for name in ("volumes", "downloads")]
    for folder in (*shared, site / OBSERVATIONS, site / CROPS):
        with suppress(OSError):
            shutil.rmtree(folder)
