"""Run by an interpreter with slicer-core: the MONAI Label plugin's own code, step by step.

Usage: plugin_session.py PLUGIN_FOLDER FOLDER URL
Reads steps from stdin, one a line: {"do": NAME, ...}. Answers each with a line that begins with
RESULT, and says as JSON what the reader sees then. Coordinates are Slicer's: RAS mm.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import desktop
import load_results
import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

import slicer

RESULT = "RESULT "
_TOOLS = ("foreground_scribbles", "background_scribbles")


class Session:
    """One reader at one desktop."""

    def __init__(self, plugin_folder: str, folder: str, url: str) -> None:
        self.folder = Path(folder)
        self.widget = desktop.plugin_widget(plugin_folder, folder, url)
        self.answers: list[Any] = []
        self._record_answers()

    def _record_answers(self) -> None:
        """Keep the params of each answer, which the plugin only prints."""
        infer = self.widget.logic.infer

        def recorded(*given: Any, **named: Any) -> Any:
            file, params = infer(*given, **named)
            self.answers.append(params)
            return file, params

        self.widget.logic.infer = recorded

    # -- what a reader does -------------------------------------------------------------------

    def connect(self) -> None:
        self.widget.onClickFetchInfo()

    def next(self, strategy: str = "random") -> None:
        self.close()
        self.widget.ui.strategyBox.currentText = strategy
        self.widget.onNextSampleButton()

    def take(self, image: str, name: str) -> None:
        """*Next sample*, where the server offers this image."""
        logic = self.widget.logic
        offered = {"id": image, "name": name}
        asked, logic.next_sample = logic.next_sample, lambda *_: offered
        self.next()
        logic.next_sample = asked

    def close(self) -> None:
        """Close the scene, as Slicer does before the next sample."""
        self.widget.onSceneStartClose(None, None)
        slicer.mrmlScene.Clear(0)
        self.widget.initializeParameterNode()

    def open(self, file: str, name: str) -> None:
        """Open a volume of the reader's own."""
        node = desktop.load_volume(file)
        node.SetName(name)
        self.widget.updateGUIFromParameterNode()

    def settings(self, **values: Any) -> None:
        desktop.SETTINGS.update(values)

    def select(self, box: str, text: str) -> None:
        getattr(self.widget.ui, box).currentText = text
        self.widget.updateParameterNodeFromGUI()
        self.widget.updateGUIFromParameterNode()

    def run(self, model: str) -> None:
        """*Auto segmentation*, *Run*."""
        self.select("segmentationModelSelector", model)
        self.widget.onClickSegmentation()

    def click(self, ras: list[float], label: str, freeze: bool = False) -> None:
        """*SmartEdit*: select a segment, place a point."""
        widget = self.widget
        self.select("labelComboBox", label)
        widget.onSelectLabel()
        widget.ui.freezeUpdateCheckBox.checked = freeze
        widget.ignorePointListNodeAddEvent = True
        widget.dgPositivePointListNode.AddControlPoint(ras)
        widget.ignorePointListNodeAddEvent = False
        widget.onUpdateDeepgrow()

    def rename(self, segment: str, to: str) -> None:
        segmentation = self._segmentation()
        segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(segment)).SetName(to)

    def paint(self, segment: str, ras: list[float], side: int) -> None:
        """Add a cube of so many voxels to a segment, with the brush."""
        volume, node = self.widget._volumeNode, self.widget._segmentNode
        segment_id = self._segmentation().GetSegmentIdBySegmentName(segment)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
        matrix = vtk.vtkMatrix4x4()
        volume.GetRASToIJKMatrix(matrix)
        i, j, k = (round(x) for x in matrix.MultiplyDoublePoint([*ras, 1.0])[:3])
        array[k : k + side, j : j + side, i : i + side] = 1
        volume.GetIJKToRASMatrix(matrix)
        image = slicer.vtkOrientedImageData()
        n_k, n_j, n_i = array.shape
        image.SetExtent(0, n_i - 1, 0, n_j - 1, 0, n_k - 1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.SetGeometryFromImageToWorldMatrix(matrix)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.ravel()
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(image, node, segment_id, logic.MODE_REPLACE)

    def relabel(self, box: int, label: str) -> None:
        """Rename the point of a box, the only name that the plugin sends."""
        self._boxes()[box].SetNthControlPointLabel(0, label)

    def resize(self, box: int, size: list[float]) -> None:
        self._boxes()[box].SetSize(*size)

    def submit(self) -> None:
        self.widget.onSaveLabel()

    def train(self, **options: Any) -> None:
        name = self.widget.ui.trainerBox.currentText
        self.widget.info["trainers"][name]["config"].update(options)
        self.widget.onTraining()

    def monitor(self) -> None:
        """What the plugin's timer does every five seconds while a training runs."""
        if self.widget.timer is not None:
            self.widget.monitorTraining()

    def see(self) -> None:
        self.widget.updateGUIFromParameterNode()

    # -- what a reader sees -------------------------------------------------------------------

    def seen(self) -> dict[str, Any]:
        ui, sample = self.widget.ui, self.widget.current_sample or {}
        scene = slicer.mrmlScene
        volume = self.widget._volumeNode
        answers, self.answers = self.answers, []
        return {
            "dialogs": desktop.shown(),
            "sample": sample,
            "volume": volume and volume.GetName(),
            "answers": answers,
            "segments": self._segments(),
            "points": [
                node
                for node in load_results.nodes(scene, "vtkMRMLMarkupsFiducialNode")
                if node["name"] not in ("P", "N")
            ],
            "lines": load_results.nodes(scene, "vtkMRMLMarkupsLineNode"),
            "boxes": load_results.nodes(scene, "vtkMRMLMarkupsROINode"),
            "models": {
                box: getattr(ui, f"{box}ModelSelector").items
                for box in ("segmentation", "deepgrow")
            },
            "labels": ui.labelComboBox.items,
            "strategies": ui.strategyBox.items,
            "trainers": ui.trainerBox.items,
            "bars": {
                name: {"value": bar.value, "tip": bar.toolTip}
                for name in ("activeLearning", "training", "accuracy")
                for bar in [getattr(ui, f"{name}ProgressBar")]
            },
            "may_train": bool(ui.trainingButton.enabled),
            "trains": self.widget.timer is not None,
            "stats": self.widget.info.get("train_stats", {}),
        }

    def _segmentation(self) -> Any:
        return self.widget._segmentNode.GetSegmentation()

    def _boxes(self) -> list[Any]:
        found = slicer.mrmlScene.GetNodesByClass("vtkMRMLMarkupsROINode")
        boxes = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
        return [box for box in boxes if box.GetNumberOfControlPoints()]

    def _segments(self) -> dict[str, Any]:
        """Voxels, centroid and box of each segment, by the name that is shown."""
        if self.widget._segmentNode is None:
            return {}
        segmentation, held = self._segmentation(), {}
        for n in range(segmentation.GetNumberOfSegments()):
            segment_id = segmentation.GetNthSegmentID(n)
            name = segmentation.GetSegment(segment_id).GetName()
            held[name] = self._segment(segment_id)
        return held

    def _segment(self, segment_id: str) -> dict[str, Any]:
        image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
        self.widget._segmentNode.GetBinaryLabelmapRepresentation(segment_id, image)
        scalars = image.GetPointData().GetScalars()
        if scalars is None or not image.GetNumberOfPoints():
            return {"voxels": 0}
        filled = np.argwhere(vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]) > 0)
        if not len(filled):
            return {"voxels": 0}
        image.GetImageToWorldMatrix(matrix)
        index = filled[:, ::-1] + np.array(image.GetExtent()[::2])
        affine = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        ras = index @ affine[:3, :3].T + affine[:3, 3]
        return {"voxels": len(filled), "ras": ras.mean(axis=0).tolist(), "all_ras": ras.tolist()}


def main(*arguments: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # the plugin prints
        session = Session(*arguments)
    for line in sys.stdin:
        step = json.loads(line)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                getattr(session, step.pop("do"))(**step)
                seen = session.seen()
        except Exception:
            seen = {"failed": traceback.format_exc()}
        print(RESULT + json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
