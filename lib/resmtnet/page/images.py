"""Routes from which the browser gets what it draws: crops, whole CTs, masks and NiiVue.

Each is answered in a thread, and no browser keeps an image of a patient on its disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from urllib.parse import urlencode

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from resmtnet.ct import Geometry
from resmtnet.errors import InputError
from resmtnet.page.address import ROOT
from resmtnet.page.case import mask_of_reading, nodules_of
from resmtnet.page.niivue import MISSING, niivue_file
from resmtnet.page.pictures import Picture, crop_picture, mask_in, whole_picture
from resmtnet.page.services import Services
from resmtnet.types import Point

NIIVUE = f"{ROOT}/niivue.js"

_NO_STORE = {"Cache-Control": "no-store"}
_YEAR = {"Cache-Control": "private, max-age=31536000, immutable", "Content-Encoding": "gzip"}


def crop_address(image: str, centre_lps_mm: Point) -> str:
    """Return the address of the crop around a place."""
    return f"{ROOT}/images/crop.nii?{_query(image, centre_lps_mm)}"


def mask_address(image: str, centre_lps_mm: Point, whose: str) -> str:
    """Return the address of a mask on the voxels of that crop.

    Args:
        image: id of the image.
        centre_lps_mm: of the crop and of the nodule.
        whose: "model", or "mine" for what the reader has drawn.
    """
    return f"{ROOT}/images/mask?{_query(image, centre_lps_mm)}&{urlencode({'whose': whose})}"


def whole_address(image: str) -> str:
    """Return the address of the whole CT, coarser."""
    return f"{ROOT}/images/whole.nii?{urlencode({'image': image})}"


def add_image_routes(pages: FastAPI, find: Callable[[Request], Services]) -> None:
    """Add the routes to the app of the page.

    Args:
        pages: below ROOT.
        find: returns what a request may use.
    """

    @pages.get("/niivue.js", include_in_schema=False)
    def niivue() -> Response:
        file = niivue_file()
        if not file.is_file():
            raise HTTPException(404, MISSING)
        return Response(file.read_bytes(), media_type="text/javascript", headers=_YEAR)

    @pages.get("/images/crop.nii", include_in_schema=False)
    def crop(request: Request, image: str, at: str) -> Response:
        return _nifti(_crop(find(request), image, at))

    @pages.get("/images/whole.nii", include_in_schema=False)
    def whole(request: Request, image: str) -> Response:
        try:
            return _nifti(whole_picture(find(request).open_ct(image)))
        except InputError as error:
            raise HTTPException(400, str(error)) from error

    @pages.get("/images/mask", include_in_schema=False)
    def mask(request: Request, image: str, at: str, whose: str) -> Response:
        services = find(request)
        picture = _crop(services, image, at)
        found = _mask_at(services, image, _point(at), whose)
        if found is None:
            raise HTTPException(404, "There is no mask.")
        bits = picture.pack(mask_in(picture, *found))
        return Response(bits, media_type="application/octet-stream", headers=_NO_STORE)


def _mask_at(
    services: Services, image: str, at: Point, whose: str
) -> tuple[NDArray[np.uint8], Geometry] | None:
    """The mask of the nodule at a place; None where there is none, or it is hidden."""
    nodules = nodules_of(services, image)
    if not nodules:
        return None
    nodule = min(nodules, key=lambda one: math.dist(one.centre_lps_mm, at))
    if whose == "mine":
        said = nodule.said
        return None if said is None or said.mask is None else mask_of_reading(services, said.mask)
    sight = services.blinding.sight(image, services.visitor.reader)
    return nodule.mask() if sight.shows_at(nodule.centre_lps_mm) else None


def _crop(services: Services, image: str, at: str) -> Picture:
    try:
        return crop_picture(services.open_ct(image), _point(at))
    except InputError as error:
        raise HTTPException(400, str(error)) from error


def _nifti(picture: Picture) -> Response:
    return Response(picture.nifti(), media_type="application/octet-stream", headers=_NO_STORE)


def _query(image: str, at: Point) -> str:
    return urlencode({"image": image, "at": ",".join(f"{mm:.3f}" for mm in at)})


def _point(text: str) -> Point:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise HTTPException(400, "at: three numbers x,y,z (LPS mm) are needed.") from None
    return x, y, z
