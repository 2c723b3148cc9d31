"""A DICOM SEG of an answer names its segments by the value of their voxels."""

from __future__ import annotations

import asyncio
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException

from resmtnet.ct import Geometry
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.server import infer_output


@pytest.mark.parametrize("name", ["benign", "malignant", "indeterminate"])
def test_a_segment_has_the_name_of_its_value(
    grid: Geometry, make_finding: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    named: list[Any] = []
    monkeypatch.setattr(
        infer_output, "nifti_to_dicom_seg", lambda folder, label, info: named.append(info) or ""
    )
    mask = write_mask([make_finding(grid, (8, 8, 5), class_name=name)], grid, ".nrrd")
    labels = {"benign": 1, "malignant": 2, "indeterminate": 3}
    info = infer_output._label_info(labels, [{"name": "benign", "color": [1, 2, 3]}])
    infer_output._seg_by_value("series", str(mask), info)
    mask.unlink()
    ((entry,),) = named
    assert (entry["name"], entry["idx"]) == (name, labels[name])
    assert ("color" in entry) == (name == "benign")


def test_without_a_nodule_there_is_no_segment(grid: Geometry) -> None:
    mask = write_mask([], grid, ".nrrd")
    with pytest.raises(HTTPException, match="No nodule") as caught:
        infer_output._seg_by_value("series", str(mask), [])
    mask.unlink()
    assert caught.value.status_code == 404


def test_on_a_folder_a_dicom_seg_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = SimpleNamespace(datastore=lambda: object())
    monkeypatch.setattr(infer_output, "app_instance", lambda: app)
    infer_output.check_output({"output": "json"})
    with pytest.raises(HTTPException, match="image, json and all") as caught:
        infer_output.check_output({"output": "dicom_seg", "image": "ct"})
    assert caught.value.status_code == 400
    assert json.dumps(caught.value.detail)


@pytest.mark.parametrize("params", ["{", "[1]", '"text"', "[" * 5000])
def test_broken_params_of_a_dicom_seg_are_refused(
    monkeypatch: pytest.MonkeyPatch, params: str
) -> None:
    app = SimpleNamespace(_infers={"resmtnet": SimpleNamespace(labels={"benign": 1})})
    monkeypatch.setattr(infer_output, "app_instance", lambda: app)

    def run_inference(model: str, params: str, output: str, background_tasks: Any) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(infer_output.infer, "run_inference", run_inference)
    monkeypatch.setattr(infer_output.infer, "nifti_to_dicom_seg", None)
    infer_output.name_segments()
    with pytest.raises(HTTPException, match="JSON object") as caught:
        infer_output.infer.run_inference("resmtnet", params, "dicom_seg", BackgroundTasks())
    assert caught.value.status_code == 400


@pytest.mark.parametrize("fails", [False, True])
def test_mask_and_dicom_seg_are_deleted_after_the_answer(
    grid: Geometry, make_finding: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool
) -> None:
    seg, mask = tmp_path / "seg.dcm", write_mask([make_finding(grid, (8, 8, 5))], grid, ".nrrd")

    def convert(*_: Any) -> str:
        seg.touch()
        return str(seg)

    def run(background_tasks: BackgroundTasks) -> str:
        infer_output._seg_by_value("series", str(mask), [])
        if fails:
            raise ValueError("after the SEG")
        return "answer"

    monkeypatch.setattr(infer_output, "nifti_to_dicom_seg", convert)
    tasks = BackgroundTasks()
    bound = inspect.signature(run).bind(tasks)
    if fails:
        with pytest.raises(ValueError, match="after"):
            infer_output._run_and_delete(run, bound)
    else:
        assert infer_output._run_and_delete(run, bound) == "answer"
        assert seg.exists()
        asyncio.run(tasks())
    assert not seg.exists()
    assert not mask.exists()
