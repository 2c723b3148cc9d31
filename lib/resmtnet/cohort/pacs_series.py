"""CT series of a PACS: listed by QIDO-RS, fetched by WADO-RS when they are scored."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from resmtnet.ct.content_key import series_key
from resmtnet.errors import InputError, PacsError

USERNAME, PASSWORD = "MONAI_LABEL_DICOMWEB_USERNAME", "MONAI_LABEL_DICOMWEB_PASSWORD"
"""Environment variables with the account at the PACS, the same as the server reads."""
PAGE = 500
"""Series that are asked for at once; a PACS may give fewer."""
WAIT_S = 5.0
"""Before a series that a PACS did not give to its end is fetched again. A question without an
answer is repeated by dicomweb-client itself, five times within half a minute."""
Answer = TypeVar("Answer")
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
    seen: set[str] = set()
    offset = 0
    while page := _search(service, offset):
        before = len(seen)
        for entry in page:
            uid = _text(entry, "0020000E")
            seen.add(uid)
            if _text(entry, "00080060") == "CT":  # a PACS may ignore the filter
                found[uid] = series_url(service, _text(entry, "0020000D"), uid)
        if len(seen) == before:  # it ignores the offset as well, and gave all of them at once
            break
        offset += len(page)  # it may give fewer than it was asked for, and have more
    return list(found.items())


def answers(service: str) -> bool:
    """Whether a PACS answers a search at all."""
    try:
        _client(service).search_for_series(limit=1)
    except (OSError, ValueError):
        return False
    return True


def fetched_key(url: str) -> str:
    """Return a key of a series' images by their UIDs, which a PACS keeps for other content.

    Raises:
        PacsError: the PACS did not answer.
    """
    return series_key((image, 0) for image in _listed(url))


def fetch(url: str, folder: Path) -> None:
    """Write the images of a series into a folder, one at a time.

    Raises:
        PacsError: the PACS does not have it, did not answer, or gave only a part of it.
    """
    service, study_uid, uid = split_url(url)
    listed = set(_listed(url))
    if not listed:
        raise PacsError(f"{service} has no series {uid}")

    def all_images() -> set[str]:
        given = set()
        for number, dataset in enumerate(_client(service).iter_series(study_uid, uid)):
            given.add(str(dataset.SOPInstanceUID))
            dataset.save_as(folder / f"{number:05}.dcm", write_like_original=False)
        return given

    failure = f"{service} did not give the series {uid}"
    try:
        given = _asked(all_images, failure)
    except PacsError:
        time.sleep(WAIT_S)
        given = _asked(all_images, failure)
    missing = listed - given
    if missing:
        raise PacsError(
            f"{service} lists {len(listed)} images of the series {uid} and gave "
            f"{len(listed) - len(missing)} of them: what is missing would be taken for air"
        )


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


def _search(service: str, offset: int) -> list[Any]:
    """Return the series of a PACS from an offset on, as many as it gives at once."""
    return _asked(
        lambda: _client(service).search_for_series(
            search_filters={"Modality": "CT"}, limit=PAGE, offset=offset
        ),
        f"{service} did not answer a search",
    )


def _listed(url: str) -> list[str]:
    """Return the SOPInstanceUIDs of a series."""
    service, study_uid, uid = split_url(url)

    def search(offset: int) -> list[Any]:
        return _asked(
            lambda: _client(service).search_for_instances(
                study_uid, uid, limit=PAGE, offset=offset
            ),
            f"{service} did not answer a search",
        )

    seen: set[str] = set()
    offset = 0
    while page := search(offset):
        images = {_text(entry, "00080018") for entry in page}
        if images <= seen:  # as in `list_series`
            break
        seen |= images
        offset += len(page)
    return sorted(seen)


def _asked(ask: Callable[[], Answer], failure: str) -> Answer:
    """Ask a PACS.

    Raises:
        PacsError: it refused, or did not answer; begins with `failure`.
    """
    try:
        return ask()
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise PacsError(f"{failure}: {error}") from error


def _client(service: str) -> Any:
    from dicomweb_client import DICOMwebClient
    from dicomweb_client.session_utils import create_session_from_user_pass

    name, secret = os.environ.get(USERNAME, ""), os.environ.get(PASSWORD, "")
    session = create_session_from_user_pass(name, secret) if name and secret else None
    return DICOMwebClient(service, session=session)


def _text(entry: dict[str, Any], tag: str) -> str:
    values: Sequence[Any] = entry.get(tag, {}).get("Value") or ("",)
    return str(values[0])
