"""Run by an interpreter with slicer-core: a reader's corrections, saved by Slicer's own code.

Usage: save_corrections.py MARKUPS.json MASK.nrrd CT.nrrd FOLDER
The mask: the segment "malignant" is renamed; a segment of scribbles is left out, as the plugin's
Submit does. The markups: N1 is renamed and its line is made longer. Prints the label_info.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEGMENTS = ("foreground_scribbles", "benign", "malignant", "indeterminate")


def main(markups: str, mask: str, ct: str, folder: str) -> None:
    import slicer

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logics = {}
    for name in ("Markups", "Volumes"):
        logics[name] = getattr(slicer, f"vtkSlicer{name}Logic")()
        logics[name].SetMRMLScene(scene)
    logics["Segmentations"] = slicer.vtkSlicerSegmentationsModuleLogic()
    logics["Segmentations"].SetMRMLScene(scene)
    label_info = save_masks(scene, logics, mask, ct, Path(folder))
    logics["Markups"].LoadMarkups(markups, "findings")
    save_markups(scene, Path(folder))
    print(json.dumps(label_info))


def save_masks(scene: Any, logics: Any, mask: str, ct: str, folder: Path) -> list[dict[str, Any]]:
    """The plugin's onSaveLabel: label.nrrd and label.nii.gz; and segments.seg.nrrd."""
    import vtk

    volume = logics["Volumes"].AddArchetypeVolume(ct, "ct")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation = node.GetSegmentation()
    for name in SEGMENTS:
        segmentation.AddEmptySegment(name, name)
    imported = vtk.vtkStringArray()
    for name in SEGMENTS[1:]:
        imported.InsertNextValue(name)
    labels = logics["Volumes"].AddArchetypeVolume(mask, "mask", 1)
    logics["Segmentations"].ImportLabelmapToSegmentationNode(labels, node, imported)
    segmentation.GetSegment("malignant").SetName("Benign 2")

    sent, label_info = vtk.vtkStringArray(), []
    for n in range(segmentation.GetNumberOfSegments()):
        name = segmentation.GetSegment(segmentation.GetNthSegmentID(n)).GetName()
        if name != SEGMENTS[0]:
            sent.InsertNextValue(segmentation.GetNthSegmentID(n))
            label_info.append({"name": name, "idx": n + 1})
    exported = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    logics["Segmentations"].ExportSegmentsToLabelmapNode(node, sent, exported, volume)
    save(exported, folder / "label.nrrd")
    save(exported, folder / "label.nii.gz")
    overlap_and_save(node, folder)
    return label_info


def overlap_and_save(node: Any, folder: Path) -> None:
    """segments.seg.nrrd, and layers.seg.nrrd with a segment over another one."""
    import slicer

    save(node, folder / "segments.seg.nrrd")
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("malignant", image)
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "not a nodule")
    save(node, folder / "layers.seg.nrrd")


def save_markups(scene: Any, folder: Path) -> None:
    """Each node in a file of its own, in LPS and in RAS."""
    import slicer

    points = scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
    told = points.GetNthControlPointDescription(0)
    points.SetNthControlPointLabel(0, "N1 benign")
    points.SetNthControlPointDescription(0, f"{told}; malignancy=2; texture=solid")
    line = scene.GetFirstNodeByClass("vtkMRMLMarkupsLineNode")
    ends = [[0.0] * 3, [0.0] * 3]
    for n in range(2):
        line.GetNthControlPointPositionWorld(n, ends[n])
    longer = [a + 1.5 * (b - a) for a, b in zip(*ends, strict=True)]
    line.SetNthControlPointPositionWorld(1, longer)
    for frame in ("LPS", "RAS"):
        (folder / frame).mkdir()
        found = scene.GetNodesByClass("vtkMRMLMarkupsNode")
        for n in range(found.GetNumberOfItems()):
            markup = found.GetItemAsObject(n)
            markup.AddDefaultStorageNode()
            kind = getattr(slicer.vtkMRMLStorageNode, f"CoordinateSystem{frame}")
            markup.GetStorageNode().SetCoordinateSystem(kind)
            save(markup, folder / frame / f"{n:02}.mrk.json")


def save(node: Any, path: Path) -> None:
    node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise SystemExit(f"{path} was not written")


if __name__ == "__main__":
    main(*sys.argv[1:])
