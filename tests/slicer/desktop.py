"""What 3D Slicer's desktop gives to the MONAI Label plugin, as far as the plugin needs it here.

Imported by an interpreter with slicer-core, which has Slicer's scene, its readers and writers, and
its segmentations, but neither windows nor SimpleITK. Buttons and boxes of the window are records
of what the plugin sets; whatever touches images or markups is Slicer's own code.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types
import urllib.request
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import slicer.util

import slicer

DIALOGS: list[dict[str, str]] = []
"""What the plugin shows in a window: {"kind", "text", "details"}."""
SETTINGS: dict[str, Any] = {}
"""Of the user, where they are not the plugin's defaults."""


class Widget:
    """A button, box or bar: `setX(v)` sets the attribute x."""

    def __init__(self) -> None:
        self.checked, self.enabled, self.value, self.toolTip = False, True, 0, ""
        self.rowCount, self._node = 0, None

    def setCurrentNode(self, node: Any) -> None:
        self._node = node

    def currentNode(self) -> Any:
        return self._node

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set"):
            attribute = name[3].lower() + name[4:]
            return lambda *values: setattr(self, attribute, values[0] if values else None)
        if name.startswith("_"):
            raise AttributeError(name)
        return MagicMock()


class Combo(Widget):
    """A box with a list of texts, one of them selected."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[str] = []
        self.currentIndex = -1

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def currentText(self) -> str:
        return self.items[self.currentIndex] if 0 <= self.currentIndex < self.count else ""

    @currentText.setter
    def currentText(self, text: str) -> None:
        self.currentIndex = self.findText(text)

    def addItem(self, text: str, data: Any = None) -> None:
        self.items.append(text)
        self.currentIndex = max(self.currentIndex, 0)

    def addItems(self, texts: list[str]) -> None:
        for text in texts:
            self.addItem(text)

    def setCurrentText(self, text: str) -> None:
        self.currentText = text

    def clear(self) -> None:
        self.items, self.currentIndex = [], -1

    def findText(self, text: str) -> int:
        return self.items.index(text) if text in self.items else -1

    def itemText(self, index: int) -> str:
        return self.items[index] if 0 <= index < self.count else ""

    def blockSignals(self, on: bool) -> bool:
        return False

    def setItemData(self, *values: Any) -> None:
        pass


class SegmentEditor(Widget):
    """The part of the segment editor that *Freeze* uses."""

    def setSegmentationNode(self, node: Any) -> None:
        self.node = node

    def setCurrentSegmentID(self, segment: str) -> None:
        self.segment = segment

    def effectByName(self, name: str) -> Any:
        return self

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: Any) -> None:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(labelmap, self.node, self.segment, logic.MODE_REPLACE)


class Ui:
    """The widgets of the plugin's panel, made when they are first asked for."""

    def __init__(self) -> None:
        self.embeddedSegmentEditorWidget = SegmentEditor()

    def __getattr__(self, name: str) -> Any:
        made = Combo() if name.endswith(("ComboBox", "Selector", "Box", "Section", "Name")) else 0
        if name.endswith("CheckBox") or not made:
            made = Widget()
        setattr(self, name, made)
        return made


def dialog(kind: str) -> Any:
    """A function that shows a window of this kind."""

    def show(text: str, *_: Any, **more: Any) -> bool:
        DIALOGS.append({"kind": kind, "text": text, "details": more.get("detailedText") or ""})
        return True

    return show


def load_volume(file: str, name: str = "", labels: bool = False) -> Any:
    """A volume of a file, in the scene."""
    logic = slicer.vtkSlicerVolumesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    return logic.AddArchetypeVolume(file, name or Path(file).name, 1 if labels else 0)


def save_node(node: Any, path: str, properties: Any = None) -> bool:
    """Write a node with Slicer's own writer."""
    node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    storage.SetFileName(path)
    return bool(storage.WriteData(node))


def load_markups(path: str) -> Any:
    """Read a Markups document with Slicer's own reader."""
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    return logic.LoadMarkups(path, Path(path).stem)


class QSettings:
    """What the plugin remembers from one start to the next."""

    kept: ClassVar[dict[str, Any]] = {}

    def value(self, key: str) -> Any:
        return self.kept.get(key)

    def setValue(self, key: str, value: Any) -> None:
        self.kept[key] = value


class Samples:
    """Downloads a volume, as the module Sample Data does."""

    folder = ""

    def downloadFromURL(self, **asked: Any) -> list[Any]:
        path = os.path.join(self.folder, asked["fileNames"])
        with urllib.request.urlopen(asked["uris"]) as reply:
            Path(path).write_bytes(reply.read())
        node = load_volume(path)
        node.SetName(asked["nodeNames"])
        return [node]


class Logic:
    """ScriptedLoadableModuleLogic: the node that keeps the plugin's parameters."""

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
        return node


def module(name: str, **content: Any) -> None:
    """Make a module that can be imported."""
    made = types.ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made


def install(folder: str) -> None:
    """Put all this where the plugin looks for it.

    Args:
        folder: for files that are downloaded.
    """
    slicer.mrmlScene = slicer.vtkMRMLScene()
    Samples.folder = folder
    for name in ("qt", "ctk"):
        sys.modules[name] = MagicMock()
    sys.modules["qt"].QSettings = QSettings
    sys.modules["ctk"].ctkSettingsPanel = object
    module("SampleData", SampleDataLogic=Samples)
    module("SimpleITK", ReadImage=lambda path: path)
    module(
        "sitkUtils",
        PushVolumeToSlicer=lambda path, *_, **__: load_volume(path, "", labels=True),
    )
    module("vtkSegmentationCore", vtkOrientedImageDataResample=MagicMock())
    module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    base = ("ScriptedLoadableModule", "ScriptedLoadableModuleWidget", "ScriptedLoadableModuleTest")
    bases = {name: type(name, (), {"__init__": lambda self, parent=None: None}) for name in base}
    module(
        "slicer.ScriptedLoadableModule",
        ScriptedLoadableModuleLogic=type("ScriptedLoadableModuleLogic", (Logic,), {}),
        **bases,
    )
    slicer.app = MagicMock()
    slicer.qSlicerSegmentEditorAbstractEffect = MagicMock()
    slicer.modules = MagicMock()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(slicer.mrmlScene)  # and registers the kinds of segments
    slicer.modules.segmentations.logic = lambda: logic
    slicer.util.__dict__.update(
        settingsValue=lambda key, default, converter=None: SETTINGS.get(key, default),
        errorDisplay=dialog("error"),
        warningDisplay=dialog("warning"),
        infoDisplay=dialog("info"),
        confirmOkCancelDisplay=dialog("question"),
        createProgressDialog=lambda **_: Widget(),
        saveNode=save_node,
        loadMarkups=load_markups,
        loadVolume=load_volume,
        tempDirectory=lambda *_: folder,
    )


def plugin_widget(plugin_folder: str, folder: str, url: str) -> Any:
    """The plugin's own widget over these stand-ins, connected to no server yet.

    Args:
        plugin_folder: holds MONAILabel.py.
        folder: for files.
        url: of the server.
    """
    install(folder)
    sys.path.insert(0, plugin_folder)
    import MONAILabel

    widget = MONAILabel.MONAILabelWidget()
    widget.ui, widget.tmpdir = Ui(), folder
    widget.ui.serverComboBox.addItem(url)
    widget.logic = MONAILabel.MONAILabelLogic(folder, resourcePath=lambda name: name)
    widget.ui.embeddedSegmentEditorWidget.setMRMLSegmentEditorNode(None)
    widget.initializeParameterNode()
    return widget


def shown() -> list[dict[str, Any]]:
    """The windows since the last call; details that are JSON are parsed."""
    windows = [dict(one) for one in DIALOGS]
    DIALOGS.clear()
    for one in windows:
        with contextlib.suppress(ValueError):
            one["details"] = json.loads(one["details"])
    return windows
