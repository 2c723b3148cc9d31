"""Run by an interpreter with slicer-core: loads what the app returned with Slicer's own code.

Reads jobs from stdin, one a line: {"markups": PATH, "mask": PATH, "segments": [NAME, ...]}. Answers
each with a line that begins with RESULT, and says as JSON what Slicer holds then; coordinates are
Slicer's: RAS mm. One process serves all tests, because it takes seconds to start.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SEGMENTS = ("benign", "malignant", "indeterminate")
RESULT = "RESULT "


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        held = load(job["markups"], job["mask"], job["segments"])
        print(RESULT + json.dumps(held), flush=True)


def load(markups: str, mask: str, imported: list[str]) -> dict[str, Any]:
    """What a new scene holds after loading the two files."""
    import slicer

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logics = {}
    for name in ("Markups", "Volumes"):
        logics[name] = getattr(slicer, f"vtkSlicer{name}Logic")()
        logics[name].SetMRMLScene(scene)
    logics["Segmentations"] = slicer.vtkSlicerSegmentationsModuleLogic()
    logics["Segmentations"].SetMRMLScene(scene)
    logics["Markups"].LoadMarkups(markups, "findings")
    return {
        "points": nodes(scene, "vtkMRMLMarkupsFiducialNode"),
        "lines": nodes(scene, "vtkMRMLMarkupsLineNode"),
        "boxes": nodes(scene, "vtkMRMLMarkupsROINode"),
        "segments": segments(scene, logics, mask, imported),
    }


def nodes(scene: Any, kind: str) -> list[dict[str, Any]]:
    """Markups of one kind, as Slicer holds them."""
    found = scene.GetNodesByClass(kind)
    return [node(found.GetItemAsObject(n)) for n in range(found.GetNumberOfItems())]


def node(markup: Any) -> dict[str, Any]:
    held = {"name": markup.GetName(), "points": []}
    for n in range(markup.GetNumberOfControlPoints()):
        place = [0.0, 0.0, 0.0]
        markup.GetNthControlPointPositionWorld(n, place)
        label = markup.GetNthControlPointLabel(n)
        text = markup.GetNthControlPointDescription(n)
        held["points"].append({"label": label, "description": text, "ras": place})
    if markup.IsA("vtkMRMLMarkupsROINode"):
        held["centre"], held["size"] = list(markup.GetCenter()), list(markup.GetSize())
    if markup.IsA("vtkMRMLMarkupsLineNode"):
        held["length"] = markup.GetLineLengthWorld()
    return held


def segments(scene: Any, logics: dict[str, Any], mask: str, imported: list[str]) -> dict[str, Any]:
    """The plugin's updateSegmentationMask: voxels and centre of each segment after the import."""
    import numpy as np
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    import slicer

    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    for name in SEGMENTS:
        segmentation.GetSegmentation().AddEmptySegment(name, name)
    volume = logics["Volumes"].AddArchetypeVolume(mask, "mask", 1)
    ids = vtk.vtkStringArray()
    for name in imported:
        ids.InsertNextValue(name)
    logics["Segmentations"].ImportLabelmapToSegmentationNode(volume, segmentation, ids)
    matrix, held = vtk.vtkMatrix4x4(), {}
    for name in SEGMENTS:
        image = slicer.vtkOrientedImageData()
        segmentation.GetBinaryLabelmapRepresentation(name, image)
        scalars = image.GetPointData().GetScalars()
        held[name] = {"voxels": 0, "ras": None}
        if scalars is None or not image.GetNumberOfPoints():
            continue
        shape = image.GetDimensions()[::-1]
        filled = np.argwhere(vtk_to_numpy(scalars).reshape(shape) > 0)[:, ::-1]
        if len(filled):
            image.GetImageToWorldMatrix(matrix)
            centre = filled.mean(axis=0) + np.array(image.GetExtent()[::2])
            place = list(matrix.MultiplyDoublePoint([*centre.tolist(), 1.0])[:3])
            held[name] = {"voxels": len(filled), "ras": place}
    return held


if __name__ == "__main__":
    main()
