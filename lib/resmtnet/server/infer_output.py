"""POST /infer with output=dicom_seg: each segment is named by the value of its voxels.

MONAI Label names the segments in the order of a list that the client sends, whatever their values
are, so that a malignant nodule alone would be called benign.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.utils.convert import nifti_to_dicom_seg
from monailabel.endpoints import infer
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.regions import values_of
from resmtnet.server.bodies import json_object
from resmtnet.server.rules import Refused
from resmtnet.types import Json

_SEG = "dicom_seg"
_MADE: ContextVar[list[str]] = ContextVar("made")
"""Files that the request at hand has made, to be deleted."""


def check_output(arguments: Mapping[str, Any]) -> None:
    """Refuse a DICOM SEG where none can be made.

    Args:
        arguments: of MONAI Label's run_inference.

    Raises:
        Refused: 400.
    """
    if getattr(arguments.get("output"), "value", arguments.get("output")) != _SEG:
        return
    if not isinstance(app_instance().datastore(), DICOMWebDatastore):
        raise Refused(
            400,
            "output=dicom_seg: the studies of this server are in a folder; allowed are image, json "
            "and all. A DICOM SEG is made where they are in a PACS.",
        )
    if not arguments.get("image"):
        raise Refused(400, "output=dicom_seg: image, the SeriesInstanceUID, is needed.")


def name_segments() -> None:
    """Put the names of the classes into each request for a DICOM SEG, and use them by value."""
    infer.nifti_to_dicom_seg = _seg_by_value
    run = infer.run_inference
    if getattr(run, "names_segments", False):
        return
    signature = inspect.signature(run)

    @wraps(run)
    def named(*positional: Any, **given: Any) -> Any:
        bound = signature.bind(*positional, **given)
        output = bound.arguments.get("output")
        task = app_instance()._infers.get(bound.arguments["model"])
        if getattr(output, "value", output) == _SEG and task is not None:
            params = bound.arguments.get("params")
            asked = json_object(params if isinstance(params, str) else "", "params")
            asked["label_info"] = _label_info(task.labels, asked.get("label_info"))
            bound.arguments["params"] = json.dumps(asked)
        return _run_and_delete(run, bound)

    named.names_segments = True  # type: ignore[attr-defined]
    infer.run_inference = named


def _run_and_delete(run: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """Run an inference; a DICOM SEG is deleted once it was sent, which MONAI Label leaves out."""
    made: list[str] = []
    held = _MADE.set(made)
    try:
        answer = run(*bound.args, **bound.kwargs)
    except BaseException:
        for path in made:
            remove_file(path)
        raise
    finally:
        _MADE.reset(held)
    for path in made:
        bound.arguments["background_tasks"].add_task(remove_file, path)
    return answer


def _label_info(labels: Mapping[str, int], given: object) -> list[Json]:
    """The classes with their values, and what a client says of them, such as a colour."""
    entries = given if isinstance(given, list) else []
    by_name = {e.get("name"): e for e in entries if isinstance(e, dict)}
    return [{**by_name.get(name, {}), "name": name, "idx": v} for name, v in labels.items()]


def _seg_by_value(
    series_dir: str, label: str, label_info: Sequence[Json], *more: Any, **named: Any
) -> str:
    """MONAI Label's nifti_to_dicom_seg, with an entry for each value that has voxels."""
    _MADE.get([]).append(label)
    values = values_of(read_label_map(Path(label)).mask)
    if not values:
        raise Refused(404, "No nodule was found, so there is no DICOM SEG; output=json says so.")
    by_value = {entry.get("idx"): entry for entry in label_info}
    listed = [by_value.get(value, {"name": "unknown"}) for value in values]
    convert: Callable[..., str] = nifti_to_dicom_seg
    seg = convert(series_dir, label, listed, *more, **named)
    _MADE.get([]).append(seg)
    return seg
