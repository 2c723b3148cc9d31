"""Patients of images, as pseudonyms, and which images are of the same patient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resmtnet.ct.dicom_header import is_dicom_file
from resmtnet.ct.image_file import image_suffix

_LETTERS = 16


@dataclass(frozen=True)
class Patient:
    """One patient of a site."""

    id: str
    """Decides on the side of every split: the first pseudonym in order of the alphabet, or the
    only image."""
    names: frozenset[str]
    """All pseudonyms and images."""


def patients_of(named: Iterable[tuple[str, str | None]]) -> dict[str, Patient]:
    """Return the patient of each image: images that share a pseudonym are of one patient.

    So are those that share one by way of others. The order in which they come does not matter. An
    image without a pseudonym is its own patient.

    Args:
        named: images, each with a pseudonym if one was given; an image may come many times.

    >>> found = patients_of([("a", None), ("b", "P"), ("b", None), ("c", "Q"), ("c", "P")])
    >>> {image: patient.id for image, patient in found.items()}
    {'a': 'a', 'b': 'P', 'c': 'P'}
    """
    groups: dict[str, set[str]] = {}
    images: dict[str, None] = {}
    pseudonyms: set[str] = set()
    for image, given in named:
        images[image] = None
        own = groups.setdefault(image, {image})
        if given is not None:
            pseudonyms.add(given)
            if given not in own:
                own |= groups.get(given, {given})
                groups |= dict.fromkeys(own, own)
    return {
        image: Patient(min(groups[image] & pseudonyms, default=image), frozenset(groups[image]))
        for image in images
    }


def pseudonym(patient_id: str) -> str | None:
    """Return the first 16 hexadecimal digits of the SHA-256 of a PatientID; None for an empty one.

    >>> pseudonym("LIDC-IDRI-0001"), pseudonym(" ")
    ('3bb5d67ab4619662', None)
    """
    text = patient_id.strip()
    return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS] if text else None


def names_of(patient_ids: Iterable[str]) -> set[str]:
    """Return the names under which a site may know patients: their PatientIDs, and pseudonyms."""
    ids = set(patient_ids)
    return ids | {name for name in map(pseudonym, ids) if name is not None}


def patient_of(volume: Path) -> str | None:
    """Return the pseudonym of the patient of a DICOM series; None where no PatientID is known.

    It is a hash without a key, so whoever has a list of PatientIDs can find the patient: it
    belongs where the images are.

    Args:
        volume: what `CTVolume.open` takes.
    """
    return pseudonym(header_texts(volume, ("PatientID",)).get("PatientID", ""))


def header_texts(volume: Path, keywords: Sequence[str]) -> dict[str, str]:
    """Return elements of the first file of a DICOM series as text; those that are empty are absent.

    Args:
        volume: what `CTVolume.open` takes; a file of another format has none.
        keywords: of the elements, such as PatientID.
    """
    if image_suffix(volume) is not None:
        return {}
    files = sorted(volume.iterdir()) if volume.is_dir() else [volume]
    file = next((path for path in files if path.is_file() and is_dicom_file(path)), None)
    if file is None:
        return {}
    from pydicom import dcmread

    try:  # force: a file without preamble and meta header is DICOM too
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(keywords), force=True)
    except Exception:  # pydicom raises whatever its parser trips over
        return {}
    return {name: str(header.get(name)) for name in keywords if header.get(name)}
