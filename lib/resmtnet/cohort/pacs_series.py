"""CT series of a PACS: listed by QIDO-RS, fetched by WADO-RS when they are scored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from resmtnet.ct.content_key import series_key
from resmtnet.errors import InputError, PacsError

USERNAME, PASSWORD = "MONAI_LABEL_DICOMWEB_USERNAME", "MONAI_LABEL_DICOMWEB_PASSWORD"
"""Environment variables with the account at the PACS, the same as the server reads."""
PAGE = 500
"""Series that are asked for at once."""
_SERIES_URL = re.compile(r"(https?://.+)/studies/([0-9.]+)/series/([0-9.]+)/?")


def is_url(place: str) -> bool:
    """Whether a place is an address of the web.

    >>> is_url("http://pacs/dicom-web"), is_url("studies/a.nii")
    (True, False)
    """
    return place.startswith(("http://", "https://"))


def series_url(service: str, study_uid: str, uid: str) -> str:
    """Return the address of a series, as DICOM PS3.18 8.3 writes it.

    >>> series_url("http://pacs/dicom-web/", "1.2", "1.2.3")
    'http://pacs/dicom-web/studies/1.2/series/1.2.3'
    """
    return f"{service.rstrip('/')}/studies/{study_uid}/series/{uid}"


def list_series(service: str) -> list[tuple[str, str]]:
    """Return SeriesInstanceUID and address of every CT series of a PACS.

    Args:
        service: URL of its DICOMweb service.

    Raises:
        PacsError: it did not answer.
    """
    found: dict[str, str] = {}
    while True:
        try:
            page = _client(service).search_for_series(
                search_filters={"Modality": "CT"}, limit=PAGE, offset=len(found)
            )
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise PacsError(f"{service} did not answer a search: {error}") from error
        before = len(found)
        for entry in page:
            if _text(entry, "00080060") == "CT":  # a PACS may ignore the filter
                uid = _text(entry, "0020000E")
                found[uid] = series_url(service, _text(entry, "0020000D"), uid)
        if len(page) < PAGE or len(found) == before:
            return list(found.items())


def fetched_key(url: str) -> str:
    """Return a key of a series' images by their UIDs, which a PACS keeps for other content.

    Raises:
        PacsError: the PACS did not answer.
    """
    service, study_uid, uid = split_url(url)
    try:
        found = _client(service).search_for_instances(study_uid, uid)
    except (OSError, ValueError) as error:
        raise PacsError(f"{service} did not answer a search: {error}") from error
    return series_key((_text(entry, "00080018"), 0) for entry in found)


def fetch(url: str, folder: Path) -> None:
    """Write the images of a series into a folder, one at a time.

    Raises:
        PacsError: the PACS does not have it, or did not answer.
    """
    service, study_uid, uid = split_url(url)
    number = -1
    try:
        for number, dataset in enumerate(_images(service, study_uid, uid)):
            dataset.save_as(folder / f"{number:05}.dcm", write_like_original=False)
    except (OSError, ValueError) as error:
        raise PacsError(f"{service} did not give the series {uid}: {error}") from error
    if number < 0:
        raise PacsError(f"{service} has no series {uid}")


def split_url(url: str) -> tuple[str, str, str]:
    """Return service, StudyInstanceUID and SeriesInstanceUID of the address of a series.

    Raises:
        InputError: it is another address.

    >>> split_url("http://pacs/dicom-web/studies/1.2/series/1.2.3")
    ('http://pacs/dicom-web', '1.2', '1.2.3')
    """
    match = _SERIES_URL.fullmatch(url)
    if match is None:
        raise InputError(
            f"{url} is no series of a PACS; an address like "
            "http://pacs/dicom-web/studies/1.2/series/1.2.3 is needed"
        )
    service, study_uid, uid = match.groups()
    return service, study_uid, uid


def _images(service: str, study_uid: str, uid: str) -> Iterator[Any]:
    client = _client(service)
    yield from client.iter_series(study_uid, uid)


def _client(service: str) -> Any:
    from dicomweb_client import DICOMwebClient
    from dicomweb_client.session_utils import create_session_from_user_pass

    name, secret = os.environ.get(USERNAME, ""), os.environ.get(PASSWORD, "")
    session = create_session_from_user_pass(name, secret) if name and secret else None
    return DICOMwebClient(service, session=session)


def _text(entry: dict[str, Any], tag: str) -> str:
    values: Sequence[Any] = entry.get(tag, {}).get("Value") or ("",)
    return str(values[0])
