"""What a client asks of a model: untyped in, checked and typed out."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.ct import Geometry
from resmtnet.errors import InputError, PointError
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.settings import MOST_CANDIDATES, AppSettings, parse_context, parse_count
from resmtnet.types import Point

MOST_POINTS = 200

_UPLOAD = re.compile(r"tmp[a-z0-9_]{8}(\.[A-Za-z0-9.]+)?")
"""How MONAI Label names what a client uploads with /infer."""


@dataclass(frozen=True)
class InferRequest:
    """One call of a model."""

    image: Path
    """What `CTVolume.open` takes."""

    points_ijk: tuple[Point, ...]
    """Clicks as voxel indices, i first; a repeated one once; none: the whole CT."""

    context: str | None
    max_candidates: int
    result_extension: object = None

    @classmethod
    def parse(cls, request: Mapping[str, Any], settings: AppSettings) -> InferRequest:
        """Reads a request; what it does not say is taken from the settings.

        Args:
            request: image (a path) and, all optional, foreground (a point or a list of points),
                or a list of points under the name of a class as deepedit sends them, context,
                max_candidates, result_extension. Everything else (background, roi, label...) is
                for other kinds of models.
            settings: the defaults.

        Raises:
            InputError: a field is not what it has to be.
        """
        limit = request.get("max_candidates")
        limit = settings.max_candidates if limit in (None, "") else limit
        return cls(
            image=_image(request.get("image")),
            points_ijk=_points(request),
            context=parse_context(request.get("context", settings.context), "context"),
            max_candidates=parse_count(limit, "max_candidates", 1, MOST_CANDIDATES),
            result_extension=request.get("result_extension"),
        )


def centres_lps(points_ijk: tuple[Point, ...], geometry: Geometry) -> list[Point]:
    """The points in LPS mm.

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


def checked(request: Mapping[str, Any], app: Any) -> dict[str, Any]:
    """A request that the app can answer, with `image_id`: the image turns into a path later.

    The image_id of an image that is none of the studies is empty.

    Args:
        request: of a client.
        app: MONAI Label's, that answers.

    Raises:
        Refusal: see check_request.
    """
    sessions = app.sessions()
    folders = [getattr(app.datastore(), "_datastore_path", app.studies)]
    check_request(request, app._infers, folders + ([sessions.store_path] if sessions else []))
    image_id = "" if os.path.exists(request["image"]) else request["image"]
    return {**request, "image_id": image_id}


def check_request(
    request: Mapping[str, Any], models: Collection[str], folders: Iterable[str]
) -> None:
    """Refuses what MONAI Label itself would answer with a bare 500, or with a foreign file.

    `params` of a request can overwrite its image, and MONAI Label opens whatever path exists.

    Args:
        request: model is a name; image an id of the datastore or, put there by MONAI Label, the
            path of an upload.
        models: those that are registered.
        folders: a path may lie in these: the studies and the sessions.

    Raises:
        Refusal: 404 for an unknown model, 400 for an image that is no text, 403 for a path
            outside the folders.
    """
    model, image = request.get("model"), request.get("image")
    if model not in models:
        raise Refusal(404, f"There is no model {model!r}. Available: {', '.join(models)}.")
    if not isinstance(image, str) or not image or "\0" in image:
        raise Refusal(400, f"image {image!r}: the id of an image is needed; /datastore lists them.")
    if not os.path.exists(image):
        return
    path = Path(image).resolve()
    roots = [Path(folder).resolve() for folder in folders]
    if not is_upload(path) and not any(root in path.parents for root in roots):
        raise Refusal(403, "image: a path outside the studies folder is not opened; give an id.")


def is_upload(path: Path) -> bool:
    """Whether a file is one that a client uploaded with its request, to be read once."""
    folder = Path(tempfile.gettempdir())
    return path.parent in (folder, folder.resolve()) and bool(_UPLOAD.fullmatch(path.name))


def _image(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise InputError("There is no such image; /datastore lists the ids.")
    return Path(value)


def _points(request: Mapping[str, Any]) -> tuple[Point, ...]:
    fields = [name for name in ("foreground", *LABEL_NAMES) if request.get(name)]
    points = [point for name in fields for point in _point_list(request[name], name)]
    if len(points) > MOST_POINTS:
        raise InputError(
            f"{len(points)} points in one request; at most {MOST_POINTS} are answered."
        )
    return tuple(dict.fromkeys(points))


def _point_list(value: object, name: str) -> list[Point]:
    if not isinstance(value, (list, tuple)):
        raise PointError(f"{name} is {value!r}: a list of [i, j, k] voxel indices is needed.")
    if not any(isinstance(entry, (list, tuple)) for entry in value):
        value = [value]
    return [_point(entry, name) for entry in value]


def _point(value: object, name: str) -> Point:
    numbers = value if isinstance(value, (list, tuple)) else ()
    valid = [n for n in numbers if isinstance(n, (int, float)) and not isinstance(n, bool)]
    if len(numbers) != 3 or len(valid) != 3 or not all(math.isfinite(n) for n in valid):
        raise PointError(
            f"{name} has the point {value!r}: three finite numbers (i, j, k) are needed."
        )
    i, j, k = (float(n) for n in valid)
    return i, j, k


def _text(point: Point) -> str:
    return f"({', '.join(f'{value:g}' for value in point)})"
