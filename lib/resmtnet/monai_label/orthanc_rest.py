"""Deletes an object from an Orthanc, whose DICOMweb cannot; its own REST interface can.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from requests import RequestException, Session

logger = logging.getLogger(__name__)

_TIMEOUT_S = 20.0


def orthanc_url(session: Session, dicom_web: str) -> str | None:
    """Return the address of the Orthanc that a DICOMweb service belongs to.

    Args:
        session: with the login of the PACS.
        dicom_web: URL of the service; Orthanc has it one or two steps below its own address.

    Returns:
        The address without a slash at its end; None: it is another PACS, or its REST interface is
        closed to us.
    """
    for address in _parents(dicom_web):
        try:
            reply = session.get(f"{address}/system", timeout=_TIMEOUT_S, allow_redirects=False)
            system: Any = reply.json() if reply.status_code == 200 else None
        except (RequestException, ValueError):
            continue
        if isinstance(system, dict) and {"ApiVersion", "DicomAet"} <= set(system):
            return address
    return None


def delete_from_orthanc(session: Session, address: str, sop_instance_uid: str) -> bool:
    """Delete one object, and nothing else.

    Args:
        session: with the login of the PACS.
        address: of the Orthanc.
        sop_instance_uid: of the object.

    Returns:
        Whether it was there and is deleted.
    """
    try:
        found = session.post(
            f"{address}/tools/lookup", data=sop_instance_uid.encode(), timeout=_TIMEOUT_S
        )
        found.raise_for_status()
        ids = [str(one["ID"]) for one in found.json() if one.get("Type") == "Instance"]
        if len(ids) != 1:
            logger.info("Orthanc has %d objects of UID %s", len(ids), sop_instance_uid)
            return False
        reply = session.delete(f"{address}/instances/{ids[0]}", timeout=_TIMEOUT_S)
        reply.raise_for_status()
    except (RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.info("Orthanc does not delete %s: %s", sop_instance_uid, error)
        return False
    return True


def _parents(url: str) -> Iterator[str]:
    """Give the addresses above a URL, the nearest first.

    >>> list(_parents("http://pacs:8042/dicom-web/"))
    ['http://pacs:8042']
    >>> list(_parents("https://pacs/orthanc/dicom-web"))
    ['https://pacs/orthanc', 'https://pacs']
    """
    scheme, _, rest = url.rstrip("/").partition("://")
    host, *steps = rest.split("/")
    for count in reversed(range(len(steps))):
        yield "/".join([f"{scheme}://{host}", *steps[:count]])
