"""Random nodules, written by the tools' own libraries and submitted: is each read as drawn?

    python benchmarks/round_trips.py [--nodules 200] [--seed 0] [--slicer PYTHON] [--json FILE]

A nodule of random shape, class and place is drawn on a CT of random size, spacing, orientation and
handedness, and goes every way in:

    nibabel .nii.gz, ITK .nrrd and .mha, pynrrd .nrrd        a mask, its segment named by label_info
    Slicer .seg.nrrd, one layer and several                  by Slicer's own code (slicer-core)
    Slicer .mrk.json, in LPS and in RAS                      a point, and a line along the long axis
    JSON                                                     schema resmtnet.reading/1

A difference is a reading with another class, a centre further than half a voxel from that of the
mask (a tenth of a millimetre for markups and JSON), or another size by more than 0.1%.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("benign", "malignant", "indeterminate")
FIELDS = {"long_axis_mm", "short_axis_mm", "mean_diameter_mm", "volume_mm3"}


# -- by Slicer's interpreter -----------------------------------------------------------------------


def slicer_main(folder: Path) -> None:
    """Write segmentations and markups of every nodule in a folder with Slicer's own code."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    import slicer

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logics = [slicer.vtkSlicerMarkupsLogic(), slicer.vtkSlicerSegmentationsModuleLogic()]
    for logic in logics:
        logic.SetMRMLScene(scene)

    def save(node: Any, path: Path, frame: int | None = None) -> None:
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if frame is not None:
            storage.SetCoordinateSystem(frame)
        storage.SetFileName(str(path))
        if not storage.WriteData(node):
            raise SystemExit(f"{path} was not written")

    for spec_path in sorted(folder.glob("*.json")):
        spec = json.loads(spec_path.read_text())
        mask = np.load(spec_path.with_suffix(".npy"))
        matrix = vtk.vtkMatrix4x4()
        for row in range(4):
            for column in range(4):
                matrix.SetElement(row, column, spec["ijk_to_ras"][row][column])
        # A segment that overlaps the first one makes Slicer write layers; the last one has the
        # voxels that both claim.
        under = np.roll(mask, 1, axis=0)
        for name, masks in (("one", {spec["class"]: mask}), ("layers", None)):
            node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
            for said, voxels in (masks or {"not a nodule": under, spec["class"]: mask}).items():
                image = slicer.vtkOrientedImageData()
                image.SetDimensions(*mask.shape[::-1])
                image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True))
                image.SetGeometryFromImageToWorldMatrix(matrix)
                node.AddSegmentFromBinaryLabelmapRepresentation(image, said)
            save(node, folder / f"{spec_path.stem}.{name}.seg.nrrd")
            scene.RemoveNode(node)
        points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        points.AddControlPoint(vtk.vtkVector3d(*spec["centre_ras"]), spec["class"])
        line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", spec["class"])
        for end in spec["ends_ras"]:
            line.AddControlPoint(vtk.vtkVector3d(*end))
        for frame in ("LPS", "RAS"):
            code = getattr(slicer.vtkMRMLStorageNode, f"CoordinateSystem{frame}")
            save(points, folder / f"{spec_path.stem}.point.{frame}.mrk.json", code)
            save(line, folder / f"{spec_path.stem}.line.{frame}.mrk.json", code)
        scene.RemoveNode(points)
        scene.RemoveNode(line)


# -- by this one -----------------------------------------------------------------------------------


def random_nodule(draw: np.random.Generator) -> tuple[Any, np.ndarray, str]:
    """A grid, the mask of one nodule on it, and its class."""
    from scipy.ndimage import label
    from scipy.spatial.transform import Rotation

    from resmtnet.ct import Geometry

    size = tuple(int(n) for n in draw.integers(24, 48, 3))
    spacing = tuple(float(x) for x in draw.choice([0.5, 0.625, 0.703125, 1.0, 1.25, 2.5], 3))
    axes = np.eye(3)[draw.permutation(3)] * draw.choice([-1.0, 1.0], 3)[:, None]
    if draw.random() < 0.4:
        axes = Rotation.from_rotvec(draw.normal(0, 0.3, 3)).as_matrix() @ axes
    origin = tuple(float(x) for x in draw.uniform(-200, 200, 3).round(3))
    grid = Geometry(size, spacing, origin, axes)
    centre = np.array(size) * draw.uniform(0.35, 0.65, 3)
    radii = draw.uniform(3.0, 7.0, 3) / spacing * draw.uniform(0.8, 1.2, 3)
    k, j, i = np.indices(size[::-1])
    place = np.stack([i, j, k], -1)
    inside = (((place - centre) / np.maximum(radii, 1.5)) ** 2).sum(-1)
    rough = inside + draw.normal(0, 0.15, inside.shape) <= 1
    parts, count = label(rough, structure=np.ones((3, 3, 3)))
    largest = 1 + int(np.argmax([(parts == n + 1).sum() for n in range(count)]))
    return grid, (parts == largest).astype(np.uint8), str(draw.choice(CLASSES))


def affine_ras(grid: Any) -> np.ndarray:
    """(4, 4) index to RAS mm."""
    affine = np.eye(4)
    affine[:3, :3] = grid.direction * grid.spacing_mm
    affine[:3, 3] = grid.origin_lps_mm
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def write_masks(grid: Any, mask: np.ndarray, stem: Path, value: int) -> dict[str, Path]:
    """The mask by nibabel, ITK and pynrrd, with its voxels of one value."""
    import itk
    import nibabel as nib
    import nrrd

    voxels = mask * np.uint8(value)
    paths = {"nibabel .nii.gz": Path(f"{stem}.nii.gz")}
    nib.save(nib.Nifti1Image(voxels.T, affine_ras(grid)), paths["nibabel .nii.gz"])
    image = itk.image_from_array(voxels)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_lps_mm)
    image.SetDirection(itk.matrix_from_array(grid.direction.copy()))
    for suffix in (".nrrd", ".mha"):
        paths[f"ITK {suffix}"] = Path(f"{stem}.itk{suffix}")
        itk.imwrite(image, str(paths[f"ITK {suffix}"]), compression=True)
    paths["pynrrd .nrrd"] = Path(f"{stem}.py.nrrd")
    header = {
        "space": "left-posterior-superior",
        "space directions": (grid.direction * grid.spacing_mm).T,
        "space origin": np.array(grid.origin_lps_mm),
        "kinds": ["domain"] * 3,
    }
    nrrd.write(str(paths["pynrrd .nrrd"]), voxels.T, header)
    return paths


class Site:
    """An inbox whose images are grids."""

    def __init__(self, folder: Path) -> None:
        from resmtnet.readings.inbox import Inbox

        self.grids: dict[str, Any] = {}
        self.folder = folder
        self.inbox = Inbox(folder / "readings.sqlite", self)

    def volume(self, image: str) -> Path:
        """A path that is not there: who the patient is does not matter here."""
        return self.folder / f"{image}.nrrd"

    def open(self, volume: Path) -> Any:
        """A CT of lung on the grid of an image."""
        from resmtnet.ct import CTVolume
        from resmtnet.ct.source import ArraySource

        grid = self.grids[volume.stem]
        hu = np.broadcast_to(np.int16(-850), grid.shape_kji)
        return CTVolume(ArraySource(hu, grid), volume.stem)

    def content_key(self, image: str) -> str | None:
        """The images never change."""
        return image

    def submit(self, image: str, path: Path, named: list[dict[str, Any]], reader: str) -> Any:
        """The reply to a label."""
        from resmtnet.readings.inbox import SavedLabel

        return self.inbox.add_label(SavedLabel(image, path, reader, None, named))


def difference(reply: Any, wanted: dict[str, Any], within_mm: float) -> str | None:
    """How a reply differs from one reading with a class, a centre and sizes."""
    readings = [r for r in reply.readings if r.class_name != "not_a_nodule"]
    if len(readings) != 1:
        return f"{len(readings)} readings; {reply.not_understood}"
    (reading,) = readings
    if reading.class_name != wanted["class"]:
        return f"class {reading.class_name}, drawn {wanted['class']}"
    away = float(np.linalg.norm(np.subtract(reading.centre_lps_mm, wanted["centre"])))
    if not away <= within_mm:
        return f"centre {away:.2f} mm away"
    for name, value in wanted["sizes"].items():
        if abs(reading.sizes.get(name, -1.0) / value - 1) > 1e-3:
            return f"{name} {reading.sizes.get(name)}, drawn {value}"
    return None


def run(nodules: int, seed: int, slicer: Path | None, folder: Path) -> dict[str, Any]:
    """Send every nodule every way in."""
    from resmtnet.ct.measure import measure
    from resmtnet.readings.formats.regions import Region

    drawn: dict[str, Any] = {}
    for n in range(nodules):
        draw = np.random.default_rng((seed, n))
        grid, mask, name = random_nodule(draw)
        found = measure(mask, grid)
        assert found is not None
        centre = Region(1, mask, grid).inner_point()
        ends = np.array(found.long_axis_ends_lps_mm)
        spec = {
            "class": name,
            "ijk_to_ras": affine_ras(grid).tolist(),
            "centre_ras": [-centre[0], -centre[1], centre[2]],
            "ends_ras": (ends * (-1, -1, 1)).tolist(),
        }
        (folder / f"n{n:04d}.json").write_text(json.dumps(spec))
        np.save(folder / f"n{n:04d}.npy", mask)
        drawn[f"n{n:04d}"] = (grid, mask, name, centre, found, ends, draw)
    if slicer is not None:
        command = [str(slicer), __file__, "--write-by-slicer", str(folder)]
        environment = {**os.environ, "PYTHONPATH": ""}
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    site = Site(folder)
    counts: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    for image, (grid, mask, name, centre, found, ends, draw) in drawn.items():
        site.grids[image] = grid
        sizes = {field: getattr(found, field) for field in FIELDS}
        whole = {"class": name, "centre": centre, "sizes": sizes}
        half_voxel = max(grid.spacing_mm) / 2
        value = int(draw.choice([1, 2, 3, 200]))
        named = [{"name": name, "idx": value}]
        ways: list[tuple[str, Path, dict[str, Any], float]] = [
            (way, path, whole, half_voxel)
            for way, path in write_masks(grid, mask, folder / image, value).items()
        ]
        reading = {"class": name, "centre_lps_mm": centre, "size": {"long_axis_mm": 9.25}}
        path = folder / f"{image}.reading.json"
        path.write_text(json.dumps({"schema": "resmtnet.reading/1", **reading}))
        ways.append(("JSON", path, {**whole, "sizes": {"long_axis_mm": 9.25}}, 0.1))
        if slicer is not None:
            for kind, title in (
                ("one", "Slicer .seg.nrrd"),
                ("layers", "Slicer .seg.nrrd, layers"),
            ):
                ways.append((title, folder / f"{image}.{kind}.seg.nrrd", whole, half_voxel))
            middle = ends.mean(axis=0)
            for frame in ("LPS", "RAS"):
                one = {**whole, "sizes": {}}
                path = folder / f"{image}.point.{frame}.mrk.json"
                ways.append((f"Slicer point, {frame}", path, one, 0.1))
                long = {**one, "centre": middle, "sizes": {"long_axis_mm": found.long_axis_mm}}
                path = folder / f"{image}.line.{frame}.mrk.json"
                ways.append((f"Slicer line, {frame}", path, long, 0.1))
        for way, path, wanted, within_mm in ways:
            try:
                reply = site.submit(image, path, named, way)
                told = difference(reply, wanted, within_mm)
            except Exception as error:
                told = f"{type(error).__name__}: {error}"
            counts.setdefault(way, Counter())["same" if told is None else "different"] += 1
            if told is not None:
                wrong.append(f"{image} {way}: {told}")
                print(wrong[-1], flush=True)
    return {
        "round_trips": sum(counter.total() for counter in counts.values()),
        "different": len(wrong),
        "by_way": {way: dict(counter) for way, counter in counts.items()},
        "differences": wrong,
        "seed": seed,
    }


def main() -> int:
    """Run, print and write the figures; 1 if a reading differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slicer", type=Path, help="an interpreter with slicer-core")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write-by-slicer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_by_slicer:
        slicer_main(options.write_by_slicer)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.nodules, options.seed, options.slicer, Path(folder))
    print(json.dumps({k: v for k, v in found.items() if k != "differences"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
