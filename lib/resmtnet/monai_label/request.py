"""Parses and checks what a client asks of a model."""

from __future__ import annotations

import os
import re
import reprlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp

from resmtnet.characteristics import LABEL_NAMES, NEUTRAL_NAMES
from resmtnet.ct import Geometry
from resmtnet.ct.points import as_point
from resmtnet.errors import InputError, PointError
from resmtnet.inference.brock import BrockInputs
from resmtnet.monai_label.prior import Prior, parse_prior
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.request_keys import check_infer_keys
from resmtnet.monai_label.setting_values import parse_context, parse_count
from resmtnet.monai_label.settings import (
    CANDIDATES_RANGE,
    AppSettings,
)
from resmtnet.monai_label.volume_paths import VolumePaths
from resmtnet.readings.formats.class_mask import mask_extension
from resmtnet.types import Point

MOST_POINTS = 200

_FARTHEST = 1e9
"""No voxel index is larger."""
_UPLOAD = re.compile(r"tmp[a-z0-9_]{8}(\..*)?", re.DOTALL)
"""How MONAI Label names what a client uploads with /infer: its own letters, and all that follows
the first dot of the client's name, such as ".0 mm.nii.gz"."""


@dataclass(frozen=True)
class InferRequest:
    """One call of a model, checked."""

    image: Path
    """What `CTVolume.open` takes."""
    points_ijk: tuple[Point, ...]
    """Clicks as voxel indices, i first; a repeated one once; none: the whole CT."""
    context: str | None
    """Guideline context; None for no guideline."""
    max_candidates: int
    """Greatest number of findings of a whole-CT run."""
    candidates_lps_mm: tuple[Point, ...] | None = None
    """Places that another detector proposes, LPS mm; None: our own search proposes them."""
    mask_extension: str = ".nrrd"
    """Of the mask file."""
    image_id: str | None = None
    """Of the image in the studies; None for an upload or a session."""
    client_id: str | None = None
    """Who asks; None if the client does not say."""
    by_segment: bool = False
    """The clicks came by segment, as 3D Slicer sends them: it fills the segments that the answer
    names, in the order of their values."""
    brock: BrockInputs | None = None
    """What the user tells for the Brock risk; None for no risk."""
    prior: Prior | None = None
    """A prior CT, or sizes before that the user gives; None for no comparison."""

    @classmethod
    def parse(
        cls,
        request: Mapping[str, Any],
        settings: AppSettings,
        needs_points: bool = False,
        gives_mask: bool = True,
    ) -> InferRequest:
        """Read a request; what it leaves out is taken from the settings.

        Args:
            request: image (a path) and, all optional, foreground (a point or a list of points),
                or a list of points under the name of a class as deepedit sends them, context,
                max_candidates, candidates (points [x, y, z] of another detector, LPS mm),
                result_extension, image_id, client_id, brock (see BrockInputs.parse), prior
                (see parse_prior). Everything else (background, roi, label...) is for other kinds
                of models.
            settings: the defaults.
            needs_points: the model answers points only.
            gives_mask: the model writes a mask; else result_extension is ignored, since Slicer
                asks every model for .nrrd.

        Raises:
            InputError: a field has a wrong value, or there is no point where one is needed.
        """
        limit = request.get("max_candidates")
        points_ijk = _points(request)
        if needs_points and not points_ijk:
            raise PointError(
                "There is no point: click a nodule, or use the model resmtnet for the whole CT. "
                "foreground is a list of [i, j, k] voxel indices."
            )
        return cls(
            image=_image(request.get("image")),
            points_ijk=points_ijk,
            context=parse_context(request.get("context", settings.context), "context"),
            max_candidates=parse_count(
                settings.max_candidates if limit in (None, "") else limit,
                "max_candidates",
                *CANDIDATES_RANGE,
            ),
            candidates_lps_mm=_candidates(request.get("candidates")),
            mask_extension=mask_extension(request.get("result_extension") if gives_mask else None),
            image_id=_text_or_none(request.get("image_id")),
            client_id=client_of(request),
            by_segment=not request.get("foreground") and bool(points_ijk),
            brock=_brock(request.get("brock")),
            prior=parse_prior(request.get("prior")),
        )


def client_of(request: Mapping[str, Any]) -> str | None:
    """Return who sends a request, as MONAI Label's clients name themselves; None if not said.

    >>> client_of({"client_id": "dr-a"}), client_of({"client_id": ""})
    ('dr-a', None)
    """
    return _text_or_none(request.get("client_id"))


def checked(request: Mapping[str, Any], app: MONAILabelApp) -> dict[str, Any]:
    """Return a request that the app can answer, with the image id under `image_id`.

    MONAI Label replaces the id under `image` by a path later; `image_id` is None for a path, that
    is an upload or a session. Without this check MONAI Label answers a bare 500, or opens whatever
    path exists: `params` of a request can overwrite its image.

    Args:
        request: model is a name; image an id of the datastore or a path of MONAI Label's.
        app: knows its models, the studies and the sessions, the only folders that are opened.

    Raises:
        InputError: a parameter that is not in the list of those that are allowed.
        Refusal: 404 for an unknown model, 400 for an image that is no text, 403 for a path
            outside the folders.
    """
    check_infer_keys(request)
    model, image = request.get("model"), request.get("image")
    if model not in app._infers:
        raise Refusal(404, f"There is no model {model!r}. Available: {', '.join(app._infers)}.")
    if not isinstance(image, str) or not image or "\0" in image:
        raise Refusal(400, f"image {image!r}: the id of an image is needed; /datastore lists them.")
    store = app.datastore()
    if hasattr(store, "image_of"):
        image = store.image_of(image, client_of(request))
    if request.get("prior") is not None:
        request = {**request, "prior": _prior_path(request["prior"], store)}
    if not os.path.exists(image):
        if hasattr(store, "ct_of"):
            image = store.ct_of(image)
        return {**request, "image": image, "image_id": image}
    if not os.path.isabs(image):  # an id that is the name of something in the working folder too
        return {**request, "image": VolumePaths(store).get_image_uri(image), "image_id": image}
    path, sessions = Path(image).resolve(), app.sessions()
    folders = [getattr(app.datastore(), "_datastore_path", app.studies)]
    folders += [sessions.store_path] if sessions else []
    if not is_upload(path) and not any(Path(f).resolve() in path.parents for f in folders):
        raise Refusal(403, "image: a path outside the studies folder is not opened; give an id.")
    return {**request, "image_id": None}


def _prior_path(prior: object, store: Any) -> object:
    """Return the `prior` of a request with a path in place of the id of its image.

    Raises:
        Refusal: 404 for an id that the datastore does not know; a path is none.
    """
    if not isinstance(prior, Mapping) or "image" not in prior:
        return prior
    image = prior["image"]
    if not isinstance(image, str) or not image or "\0" in image:
        raise Refusal(400, f"prior: image {image!r}: the id of an image is needed.")
    return {**prior, "image": VolumePaths(store).get_image_uri(image)}


def centres_lps(points_ijk: tuple[Point, ...], geometry: Geometry) -> list[Point]:
    """Return points in LPS mm.

    Raises:
        PointError: one lies outside the CT.
    """
    centres = []
    for point in points_ijk:
        x, y, z = (float(value) for value in geometry.ijk_to_lps(point))
        if not geometry.contains((x, y, z)):
            raise PointError(
                f"The point {_text(point)} lies outside the CT, which has {geometry.size_ijk} "
                "voxels (i, j, k)."
            )
        centres.append((x, y, z))
    return centres


def is_upload(path: Path) -> bool:
    """Whether a client has uploaded a file with its request."""
    folder = Path(tempfile.gettempdir())
    return path.parent in (folder, folder.resolve()) and bool(_UPLOAD.fullmatch(path.name))


def _image(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise InputError("There is no such image; /datastore lists the ids.")
    return Path(value)


def _points(request: Mapping[str, Any]) -> tuple[Point, ...]:
    fields = [name for name in ("foreground", *LABEL_NAMES, *NEUTRAL_NAMES) if request.get(name)]
    points = [point for name in fields for point in _point_list(request[name], name)]
    if len(points) > MOST_POINTS:
        raise InputError(
            f"{len(points)} points in one request; at most {MOST_POINTS} are answered."
        )
    return tuple(dict.fromkeys(points))


def _candidates(value: object) -> tuple[Point, ...] | None:
    if value is None or value == "":
        return None
    if not isinstance(value, (list, tuple)) or len(value) > MOST_POINTS:
        raise PointError(
            f"candidates: a list of at most {MOST_POINTS} points [x, y, z], LPS mm, is needed."
        )
    return tuple(as_point(point, "candidates has the point") for point in value)


def _brock(value: object) -> BrockInputs | None:
    if value is None or value == "":
        return None
    if not isinstance(value, Mapping):
        raise InputError(f"brock is {value!r}: an object with age, sex and so on is needed.")
    return BrockInputs.parse(value)


def _point_list(value: object, name: str) -> list[Point]:
    if not isinstance(value, (list, tuple)):
        raise PointError(f"{name} is {value!r}: a list of [i, j, k] voxel indices is needed.")
    if not any(isinstance(entry, (list, tuple)) for entry in value):
        value = [value]
    return [_point(entry, name) for entry in value]


def _point(value: object, name: str) -> Point:
    numbers = value if isinstance(value, (list, tuple)) else ()
    valid = [n for n in numbers if isinstance(n, (int, float)) and not isinstance(n, bool)]
    # Python's whole numbers have no limit: one beyond the range of float is no voxel index.
    if len(numbers) != 3 or len(valid) != 3 or not all(abs(n) < _FARTHEST for n in valid):
        shown = reprlib.repr(value)
        raise PointError(
            f"{name} has the point {shown}: three finite numbers (i, j, k) are needed."
        )
    i, j, k = (float(n) for n in valid)
    return i, j, k


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _text(point: Point) -> str:
    return f"({', '.join(f'{value:g}' for value in point)})"
